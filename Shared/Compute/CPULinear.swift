import CKernels
import CLinear
package import Tensor

/// Weights of a linear layer on a CPU.
final class CPULinearWeights: LinearWeights {
    /// Columns of the result that one packed piece makes, and rows of one product.
    static let columnTile = 512, packedRowTile = 128, floatRowTile = 384

    /// One piece of bfloat16 weights in oneDNN's form.
    struct Piece: Sendable {
        var columns: Range<Int>
        var plan: LinearPlan
        var packed: Tensor
    }
    enum Form: Sendable {
        /// `[outputs, inputs]` float32, as in the checkpoint.
        case dense(Tensor)
        case packed([Piece])
    }

    let inputs: Int
    let outputs: Int
    let dtype: DType
    let bias: Tensor?
    let form: Form

    init(inputs: Int, outputs: Int, dtype: DType, bias: Tensor?, form: Form) {
        self.inputs = inputs
        self.outputs = outputs
        self.dtype = dtype
        self.bias = bias
        self.form = form
    }
}

extension CPUBackend {
    package func linearWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any LinearWeights {
        let rank = weight.shape.count
        precondition(rank == 2 && dtype.isFloatingPoint && dtype != .float16, "linear weights \(weight.shape) \(dtype)")
        return cpuLinearWeights(weight, bias: bias, dtype: dtype)
    }

    func cpuLinearWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> CPULinearWeights {
        let outputs = weight.shape[0], inputs = weight.shape[1]
        precondition(inputs > 0 && bias.map { $0.count == outputs } ?? true, "a bias has one value per output")
        var form = CPULinearWeights.Form.dense(weight)
        if dtype == .bfloat16, let pieces = packedPieces(weight) {
            form = .packed(pieces)
        } else {
            form = .dense(weight.converted(to: .float32))
        }
        return CPULinearWeights(
            inputs: inputs, outputs: outputs, dtype: dtype, bias: bias?.converted(to: .float32), form: form)
    }

    private func packedPieces(_ weight: Tensor) -> [CPULinearWeights.Piece]? {
        guard hasBFloat16Products, let plans else { return nil }
        let outputs = weight.shape[0], inputs = weight.shape[1], tile = CPULinearWeights.columnTile
        var pieces: [CPULinearWeights.Piece] = []
        for start in stride(from: 0, to: outputs, by: tile) {
            let columns = start..<min(outputs, start + tile)
            let key = LinearPlanKey.product(
                rows: CPULinearWeights.packedRowTile, inputs: inputs, outputs: columns.count, likeRows: nil)
            guard let plan = plans.plan(key) else { return nil }
            let packed = Tensor(uninitialized: [plan.weightByteCount], dtype: .uint8)
            pieces.append(.init(columns: columns, plan: plan, packed: packed))
        }
        let addresses = pieces.indices.map { pieces[$0].packed.writeAddress() }
        pool.run(pieces.count) { part, _ in
            cln_use_one_thread()
            let rows = weight.rows(pieces[part].columns)
            let source = rows.dtype == .bfloat16 ? rows : rows.converted(to: .float32)
            withExtendedLifetime(source) {
                pieces[part].plan.pack(
                    source.readAddress, isBFloat16: source.dtype == .bfloat16, into: addresses[part])
            }
        }
        return pieces
    }

    package func linear(_ x: Tensor, _ weights: any LinearWeights, activation: Activation) -> Tensor {
        guard let weights = weights as? CPULinearWeights else { preconditionFailure("weights of another backend") }
        return cpuLinear(x, weights, activation: activation)
    }

    func cpuLinear(_ x: Tensor, _ weights: CPULinearWeights, activation: Activation) -> Tensor {
        precondition(
            x.shape.count == 2 && x.shape[1] == weights.inputs && x.dtype == weights.dtype,
            "linear of \(x.dtype) \(x.shape) with \(weights.dtype) [\(weights.outputs), \(weights.inputs)]")
        var y = Tensor(uninitialized: [x.shape[0], weights.outputs], dtype: x.dtype)
        let product = LinearProduct(
            rows: x.shape[0], inputs: weights.inputs, outputs: weights.outputs, x: x.readAddress, y: y.writeAddress(),
            bias: Tensor.vector(weights.bias, weights.outputs, "bias"), activation: activation.kernelActivation,
            type: type(of: x))
        withExtendedLifetime((x, weights)) {
            switch weights.form {
            case .packed(let pieces): run(product, pieces)
            case .dense(let dense) where x.dtype == .float32: run(product, dense)
            case .dense(let dense): runWidened(product, dense)
            }
        }
        return y
    }

    /// bfloat16: each part multiplies one row tile by one packed piece into float32 scratch, then finishes it.
    private func run(_ product: LinearProduct, _ pieces: [CPULinearWeights.Piece]) {
        let tile = CPULinearWeights.packedRowTile, rowTiles = (product.rows + tile - 1) / tile
        let tail = product.rows - (rowTiles - 1) * tile
        let tailPlans = pieces.map { tailPlan($0, rows: tail, inputs: product.inputs) }
        let packed = pieces.map(\.packed.readAddress)
        pool.run(rowTiles * pieces.count) { part, member in
            cln_use_one_thread()
            let piece = pieces[part / rowTiles], row = part % rowTiles * tile
            let isTail = row + tile > product.rows
            let plan = isTail ? tailPlans[part / rowTiles] : piece.plan
            let columns = piece.columns.count, tileBytes = aligned(tile * columns * 4)
            let result = scratch.bytes(tileBytes + plan.scratchByteCount, member: member)
            plan.run(
                product.x + row * product.inputs * 2, packed: packed[part / rowTiles], bias: nil, into: result,
                scratch: result + tileBytes)
            kernels.finish_product(
                product.type, product.activation, result.assumingMemoryBound(to: Float.self), Int64(columns),
                product.bias.map { $0 + piece.columns.lowerBound },
                product.y + (row * product.outputs + piece.columns.lowerBound) * 2, Int64(product.outputs),
                Int64(isTail ? tail : tile), Int64(columns))
        }
    }

    private func tailPlan(_ piece: CPULinearWeights.Piece, rows: Int, inputs: Int) -> LinearPlan {
        let tile = CPULinearWeights.packedRowTile
        guard rows > 0, rows < tile else { return piece.plan }
        let key = LinearPlanKey.product(
            rows: rows, inputs: inputs, outputs: piece.columns.count, likeRows: tile)
        guard let plan = plans?.plan(key, like: piece.plan) else {
            preconditionFailure("oneDNN has a product of \(tile) rows but none of \(rows)")
        }
        return plan
    }

    /// float32: each part multiplies one tile in place and finishes it while it is in cache.
    private func run(_ product: LinearProduct, _ weight: Tensor) {
        let rowTile = CPULinearWeights.floatRowTile, columnTile = CPULinearWeights.columnTile
        let rowTiles = (product.rows + rowTile - 1) / rowTile
        let columnTiles = (product.outputs + columnTile - 1) / columnTile
        let w = weight.readAddress.assumingMemoryBound(to: Float.self)
        let x = product.x.assumingMemoryBound(to: Float.self), y = product.y.assumingMemoryBound(to: Float.self)
        let needsFinish = product.bias != nil || product.activation != CK_NONE
        pool.run(rowTiles * columnTiles) { part, _ in
            cln_use_one_thread()
            let row = part % rowTiles * rowTile, column = part / rowTiles * columnTile
            let rows = min(rowTile, product.rows - row), columns = min(columnTile, product.outputs - column)
            let target = y + row * product.outputs + column
            cln_multiply_f32(
                Int64(rows), Int64(columns), Int64(product.inputs), x + row * product.inputs, Int64(product.inputs),
                w + column * product.inputs, Int64(product.inputs), target, Int64(product.outputs))
            guard needsFinish else { return }
            kernels.finish_product(
                CK_F32, product.activation, target, Int64(product.outputs), product.bias.map { $0 + column }, target,
                Int64(product.outputs), Int64(rows), Int64(columns))
        }
    }

    /// bfloat16 activations with float32 weights, where oneDNN has no bfloat16: row tiles are widened in scratch.
    private func runWidened(_ product: LinearProduct, _ weight: Tensor) {
        let rowTile = CPULinearWeights.packedRowTile, columnTile = CPULinearWeights.columnTile
        let rowTiles = (product.rows + rowTile - 1) / rowTile
        let columnTiles = (product.outputs + columnTile - 1) / columnTile
        let w = weight.readAddress.assumingMemoryBound(to: Float.self)
        pool.run(rowTiles * columnTiles) { part, member in
            cln_use_one_thread()
            let row = part % rowTiles * rowTile, column = part / rowTiles * columnTile
            let rows = min(rowTile, product.rows - row), columns = min(columnTile, product.outputs - column)
            let wideBytes = aligned(rows * product.inputs * 4)
            let wide = scratch.bytes(wideBytes + rows * columns * 4, member: member)
            kernels.convert(CK_BF16, product.x + row * product.inputs * 2, CK_F32, wide, Int64(rows * product.inputs))
            let result = (wide + wideBytes).assumingMemoryBound(to: Float.self)
            cln_multiply_f32(
                Int64(rows), Int64(columns), Int64(product.inputs), wide.assumingMemoryBound(to: Float.self),
                Int64(product.inputs), w + column * product.inputs, Int64(product.inputs), result, Int64(columns))
            kernels.finish_product(
                CK_BF16, product.activation, result, Int64(columns), product.bias.map { $0 + column },
                product.y + (row * product.outputs + column) * 2, Int64(product.outputs), Int64(rows), Int64(columns))
        }
    }
}

/// One product in addresses: `[rows, inputs]` times `[outputs, inputs]` transposed.
private struct LinearProduct {
    var rows: Int
    var inputs: Int
    var outputs: Int
    var x: UnsafeRawPointer
    var y: UnsafeMutableRawPointer
    var bias: UnsafePointer<Float>?
    var activation: ck_activation
    var type: ck_type
}

extension Activation {
    var kernelActivation: ck_activation {
        switch self {
        case .none: CK_NONE
        case .silu: CK_SILU
        case .geluTanh: CK_GELU_TANH
        }
    }
}
