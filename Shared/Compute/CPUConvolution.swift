import CKernels
import CLinear
import Synchronization
package import Tensor

/// Weights of a convolution on a CPU. oneDNN may want another packed form for another image size, so the packed forms
/// are made when a size first needs them; the checkpoint's weights stay (they are usually a mapped file).
final class CPUConvolutionWeights: ConvolutionWeights {
    let inputs: Int
    let outputs: Int
    let kernel: [Int]
    let dtype: DType
    let bias: Tensor?
    /// A 1×1×1 convolution is a linear layer on pixels.
    let pointwise: CPULinearWeights?
    private let source: Tensor
    private let packed = Mutex<[(plan: LinearPlan, weights: Tensor)]>([])

    init(_ weight: Tensor, bias: Tensor?, dtype: DType, pointwise: CPULinearWeights?) {
        outputs = weight.shape[0]
        inputs = weight.shape[1]
        kernel = Array(weight.shape[2...])
        self.dtype = dtype
        self.bias = bias
        self.pointwise = pointwise
        source = pointwise == nil ? weight : Tensor(zeros: [0])
    }

    /// The weights in the form that `plan` takes.
    func packed(for plan: LinearPlan) -> Tensor {
        packed.withLock { forms in
            if let found = forms.first(where: { $0.plan.takesWeights(of: plan) }) { return found.weights }
            let dense = source.dtype == .bfloat16 && dtype == .bfloat16 ? source : source.converted(to: .float32)
            var weights = Tensor(uninitialized: [plan.weightByteCount], dtype: .uint8)
            let target = weights.writeAddress()
            withExtendedLifetime(dense) {
                plan.pack(dense.readAddress, isBFloat16: dense.dtype == .bfloat16, into: target)
            }
            forms.append((plan, weights))
            return weights
        }
    }
}

extension CPUBackend {
    package func convolutionWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights {
        precondition(
            weight.shape.count == 5 && (dtype == .float32 || dtype == .bfloat16),
            "convolution \(weight.shape) \(dtype)")
        precondition(weight.shape[3] % 2 == 1 && weight.shape[4] % 2 == 1, "odd kernels in space, not \(weight.shape)")
        let isPointwise = weight.shape[2...].allSatisfy { $0 == 1 }
        let flat = weight.reshaped([weight.shape[0], weight.shape[1] * weight.shape[2...].reduce(1, *)])
        return CPUConvolutionWeights(
            weight, bias: bias?.converted(to: .float32), dtype: dtype,
            pointwise: isPointwise ? cpuLinearWeights(flat, bias: bias, dtype: dtype) : nil)
    }

    package func convolution(_ x: Tensor, _ weights: any ConvolutionWeights, residual: Tensor?) -> Tensor {
        guard let weights = weights as? CPUConvolutionWeights else { preconditionFailure("weights of another backend") }
        precondition(
            x.shape.count == 4 && x.shape[3] == weights.inputs && x.dtype == weights.dtype
                && x.shape[0] >= weights.kernel[0],
            "a convolution of \(x.dtype) \(x.shape) by \(weights.dtype) \(weights.kernel) from \(weights.inputs)")
        let frames = x.shape[0] - weights.kernel[0] + 1
        let shape = [frames, x.shape[1], x.shape[2], weights.outputs]
        precondition(residual.map { $0.shape == shape && $0.dtype == x.dtype } ?? true, "a residual of another shape")
        if let pointwise = weights.pointwise {
            var y = cpuLinear(x.reshaped([x.count / weights.inputs, weights.inputs]), pointwise, activation: .none)
            if let residual { addGated(&y, residual.reshaped(y.shape), gate: nil) }
            return y.reshaped(shape)
        }
        var y = Tensor(uninitialized: shape, dtype: x.dtype)
        let isWidened = x.dtype == .bfloat16 && !hasConvolutions
        let pass = ConvolutionPass(
            frames: frames, height: x.shape[1], width: x.shape[2], weights: weights, x: x.readAddress,
            residual: residual?.readAddress, y: y.writeAddress(), type: type(of: x), isWidened: isWidened)
        withExtendedLifetime((x, residual, weights)) { run(pass) }
        return y
    }

    /// Each part makes one band of rows of one frame from a padded copy of the rows it needs.
    private func run(_ pass: ConvolutionPass) {
        guard pass.frames > 0, pass.height > 0, pass.width > 0 else { return }
        let full = pass.shape(rows: pass.bandHeight), tailRows = pass.height - (pass.bands - 1) * pass.bandHeight
        guard let plans, let plan = plans.plan(.convolution(full, likeHeight: nil)) else {
            preconditionFailure("oneDNN has no convolution \(full)")
        }
        var tailPlan = plan
        if tailRows != pass.bandHeight {
            let tail = pass.shape(rows: tailRows)
            guard
                let found = plans.plan(.convolution(tail, likeHeight: pass.bandHeight), like: plan)
                    ?? plans.plan(.convolution(tail, likeHeight: nil))
            else { preconditionFailure("oneDNN has no convolution \(tail)") }
            tailPlan = found
        }
        let packed = pass.weights.packed(for: plan), tailPacked = pass.weights.packed(for: tailPlan)
        let bias = Tensor.vector(pass.weights.bias, pass.weights.outputs, "bias")
        let finalTailPlan = tailPlan
        withExtendedLifetime((packed, tailPacked)) {
            pool.run(pass.frames * pass.bands) { part, member in
                cln_use_one_thread()
                let isTail = part % pass.bands == pass.bands - 1
                runBand(
                    pass, frame: part / pass.bands, first: part % pass.bands * pass.bandHeight,
                    rows: isTail ? tailRows : pass.bandHeight, plan: isTail ? finalTailPlan : plan,
                    packed: (isTail ? tailPacked : packed).readAddress, bias: bias, member: member)
            }
        }
    }

    private func runBand(
        _ pass: ConvolutionPass, frame: Int, first: Int, rows: Int, plan: LinearPlan, packed: UnsafeRawPointer,
        bias: UnsafePointer<Float>?, member: Int
    ) {
        let pixels = rows * pass.width, outputs = pass.weights.outputs
        let inputBytes = aligned(pass.paddedByteCount(rows: rows))
        let wideBytes = pass.isWidened ? aligned(pixels * outputs * 4) : 0
        let input = scratch.bytes(inputBytes + wideBytes + plan.scratchByteCount, member: member)
        copyPadded(pass, frame: frame, first: first, rows: rows, into: input)
        let offset = (frame * pass.height + first) * pass.width * outputs * pass.elementBytes
        let byteCount = pixels * outputs * pass.elementBytes
        let planScratch = input + inputBytes + wideBytes
        if !pass.isWidened {
            if let residual = pass.residual {
                (pass.y + offset).copyMemory(from: residual + offset, byteCount: byteCount)
            }
            plan.run(input, packed: packed, bias: bias, into: pass.y + offset, scratch: planScratch)
            return
        }
        let wide = input + inputBytes
        if let residual = pass.residual {
            kernels.convert(CK_BF16, residual + offset, CK_F32, wide, Int64(pixels * outputs))
        }
        plan.run(input, packed: packed, bias: bias, into: wide, scratch: planScratch)
        kernels.convert(CK_F32, wide, CK_BF16, pass.y + offset, Int64(pixels * outputs))
    }

    /// The rows that a band reads, from `kt` frames, with zeros around the image.
    private func copyPadded(
        _ pass: ConvolutionPass, frame: Int, first: Int, rows: Int, into target: UnsafeMutableRawPointer
    ) {
        let side = pass.weights.kernel[2] / 2 * pass.weights.inputs * pass.inputElementBytes
        let elements = pass.width * pass.weights.inputs
        let inner = elements * pass.inputElementBytes, rowBytes = inner + 2 * side
        let above = pass.weights.kernel[1] / 2
        var to = target
        for plane in frame..<(frame + pass.weights.kernel[0]) {
            for y in (first - above)..<(first + rows + above) {
                defer { to += rowBytes }
                guard y >= 0, y < pass.height else {
                    to.initializeMemory(as: UInt8.self, repeating: 0, count: rowBytes)
                    continue
                }
                let from = pass.x + (plane * pass.height + y) * elements * pass.elementBytes
                to.initializeMemory(as: UInt8.self, repeating: 0, count: side)
                kernels.convert(pass.type, from, pass.isWidened ? CK_F32 : pass.type, to + side, Int64(elements))
                (to + side + inner).initializeMemory(as: UInt8.self, repeating: 0, count: side)
            }
        }
    }
}

/// One convolution in addresses. Bands depend on the image size alone.
private struct ConvolutionPass {
    var frames: Int
    var height: Int
    var width: Int
    var weights: CPUConvolutionWeights
    var x: UnsafeRawPointer
    var residual: UnsafeRawPointer?
    var y: UnsafeMutableRawPointer
    var type: ck_type
    /// bfloat16 tensors, float32 arithmetic: where oneDNN has no bfloat16.
    var isWidened: Bool

    var elementBytes: Int { type == CK_F32 ? 4 : 2 }
    var inputElementBytes: Int { isWidened ? 4 : elementBytes }
    /// Bands of about equal height, of 8 rows or about 1024 pixels: work enough for a part, small enough for its cache.
    var bands: Int {
        let wanted = max(8, 1024 / max(1, width))
        let count = max(1, (height + wanted - 1) / wanted)
        let rows = (height + count - 1) / count
        return (height + rows - 1) / rows
    }
    var bandHeight: Int {
        let wanted = max(8, 1024 / max(1, width))
        let count = max(1, (height + wanted - 1) / wanted)
        return (height + count - 1) / count
    }

    func shape(rows: Int) -> ConvolutionShape {
        ConvolutionShape(
            height: rows, width: width, inputs: weights.inputs, outputs: weights.outputs, kernel: weights.kernel,
            isBFloat16: type == CK_BF16 && !isWidened, hasBias: weights.bias != nil, adds: residual != nil)
    }

    func paddedByteCount(rows: Int) -> Int {
        weights.kernel[0] * (rows + weights.kernel[1] - 1) * (width + weights.kernel[2] - 1) * weights.inputs
            * inputElementBytes
    }
}
