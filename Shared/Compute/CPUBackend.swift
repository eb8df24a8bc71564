import CKernels
import Tensor

/// The backend of ordinary processors.
///
/// Everything runs in CKernels as parts of one pool, on weights that are packed once. Where sums are cut depends on
/// shapes alone: results are the same bits for every number of threads.
///
/// Where the processor has no bfloat16 arithmetic, bfloat16 weights are widened to float32 (twice the memory) and
/// products run in float32 between bfloat16 activations.
///
/// Several tasks may use one backend; their loops take turns.
package final class CPUBackend: Backend {
    let pool: ParallelPool
    let scratch: MemberScratch
    let storage = StoragePool()
    private let instructionSet: ck_isa

    /// The most bytes that living activations ever had together (`StoragePool.peakBytes`).
    package var peakStorageBytes: Int { storage.peakBytes }

    /// The kernels of the chosen instruction set.
    var kernels: ck_table { ck_select_isa(instructionSet).pointee }

    /// Starts `threads − 1` threads (0: one thread a usable core). `instructionSet` limits the kernels, for
    /// tests; the default takes the best that the processor has.
    package init(threads: Int = 0, instructionSet: InstructionSet = .best) {
        pool = ParallelPool(threads: threads)
        scratch = MemberScratch(members: pool.threads)
        self.instructionSet = ck_select_isa(instructionSet.kernelSet).pointee.isa
    }

    package var description: String { "cpu (\(String(cString: kernels.name)), \(pool.threads) threads)" }

    package var numerics: String {
        "cpu/\(String(cString: kernels.name))/2"
    }

    /// Elements of work that make a part worth handing to another thread.
    static let elementsPerPart = 32768

    /// Rows of `channels` elements in one part.
    func grain(channels: Int) -> Int { max(1, Self.elementsPerPart / max(1, channels)) }

    /// The kernel type of an activation.
    func type(of x: Tensor) -> ck_type {
        precondition(x.dtype == .float32 || x.dtype == .bfloat16, "activations are float32 or bfloat16, not \(x.dtype)")
        return x.dtype == .float32 ? CK_F32 : CK_BF16
    }
}

/// Instruction sets that the kernels are written for, each containing the one before.
package enum InstructionSet: CaseIterable, Sendable {
    case generic, avx2, avx512, best

    var kernelSet: ck_isa {
        switch self {
        case .generic: CK_GENERIC
        case .avx2: CK_AVX2
        case .avx512: CK_AVX512
        case .best: CK_AVX512_BF16
        }
    }
}

extension Tensor {
    /// The address of an optional float32 vector of `count` elements; the tensor outlives the use.
    static func vector(_ tensor: Tensor?, _ count: Int, _ name: StaticString) -> UnsafePointer<Float>? {
        guard let tensor else { return nil }
        return tensor.vector(count, name)
    }

    /// The address of a float32 vector of `count` elements; the tensor outlives the use.
    func vector(_ count: Int, _ name: StaticString) -> UnsafePointer<Float> {
        precondition(dtype == .float32 && self.count == count, "\(name) is \(dtype) \(shape), not float32 [\(count)]")
        return readAddress.assumingMemoryBound(to: Float.self)
    }
}
