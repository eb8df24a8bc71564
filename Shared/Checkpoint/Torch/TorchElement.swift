import Tensor

/// The element types of torch storages.
enum TorchElement: String, Sendable, CaseIterable {
    case float64 = "DoubleStorage"
    case float32 = "FloatStorage"
    case float16 = "HalfStorage"
    case bfloat16 = "BFloat16Storage"
    case int64 = "LongStorage"
    case int32 = "IntStorage"
    case int16 = "ShortStorage"
    case int8 = "CharStorage"
    case uint8 = "ByteStorage"
    case bool = "BoolStorage"

    var byteCount: Int {
        switch self {
        case .float64, .int64: 8
        case .float32, .int32: 4
        case .float16, .bfloat16, .int16: 2
        case .int8, .uint8, .bool: 1
        }
    }

    /// The same type of ours; nil for types that no checkpoint of the family has as weights.
    var dtype: DType? {
        switch self {
        case .float32: .float32
        case .float16: .float16
        case .bfloat16: .bfloat16
        case .int64: .int64
        case .int32: .int32
        case .uint8: .uint8
        case .float64, .int16, .int8, .bool: nil
        }
    }
}

/// A storage as a pickle names it: the bytes lie in the archive's entry `data/KEY`.
struct TorchStorage: Sendable, Hashable {
    let key: String
    let element: TorchElement
    /// Elements.
    let count: Int
}

/// A view of a storage, in elements, as `torch._utils._rebuild_tensor_v2` describes it. Checked by its maker: extents
/// and strides are not negative, there are as many of one as of the other, and the last element lies in the storage.
struct TorchTensor: Sendable, Hashable {
    let storage: TorchStorage
    let offset: Int
    let shape: [Int]
    let strides: [Int]

    var count: Int { shape.reduce(1, *) }

    /// Whether the elements lie in row-major order without gaps.
    var isContiguous: Bool {
        var expected = 1
        for (extent, stride) in zip(shape, strides).reversed() where extent != 1 {
            if stride != expected { return false }
            expected *= extent
        }
        return true
    }

    private static let largestRank = 8

    /// Nil when the description does not fit the storage. A view with more elements than its storage (an expanded
    /// one) is no weight either, and would let a small file ask for any amount of memory.
    init?(storage: TorchStorage, offset: Int, shape: [Int], strides: [Int]) {
        guard shape.count == strides.count, shape.count <= Self.largestRank, offset >= 0, storage.count >= 0,
            (shape + strides).allSatisfy({ $0 >= 0 })
        else { return nil }
        var count = 1, last = offset
        for (extent, stride) in zip(shape, strides) {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            let (step, stepOverflow) = stride.multipliedReportingOverflow(by: max(0, extent - 1))
            let (sum, sumOverflow) = last.addingReportingOverflow(step)
            guard !overflow, !stepOverflow, !sumOverflow else { return nil }
            (count, last) = (product, sum)
        }
        guard count <= storage.count, count == 0 ? offset <= storage.count : last < storage.count else { return nil }
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides
    }
}
