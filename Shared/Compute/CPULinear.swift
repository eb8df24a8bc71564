import CKernels
package import Tensor

/// Weights of a linear layer on a CPU.
final class CPULinearWeights: LinearWeights {
    let inputs: Int
    let outputs: Int
    /// Of the activations.
    let dtype: DType
    let packed: PackedWeights

    init(inputs: Int, outputs: Int, dtype: DType, packed: PackedWeights) {
        self.inputs = inputs
        self.outputs = outputs
        self.dtype = dtype
        self.packed = packed
    }
}

extension CPUBackend {
    package func linearWeights(
        _ weight: Tensor, bias: Tensor?, dtype: DType, precision: ProductPrecision
    ) -> any LinearWeights {
        let rank = weight.shape.count
        precondition(rank == 2 && dtype.isFloatingPoint && dtype != .float16, "linear weights \(weight.shape) \(dtype)")
        return cpuLinearWeights(weight, bias: bias, dtype: dtype, precision: precision)
    }

    func cpuLinearWeights(
        _ weight: Tensor, bias: Tensor?, dtype: DType, precision: ProductPrecision = .activation
    ) -> CPULinearWeights {
        let outputs = weight.shape[0], inputs = weight.shape[1]
        precondition(inputs > 0 && bias.map { $0.count == outputs } ?? true, "a bias has one value per output")
        let layout = PackedWeights.Layout(
            outputs: outputs, segments: 1, depth: inputs, outputStride: inputs, segmentStride: 0, channelStride: 1)
        let type = precision == .int8 ? CK_I8 : dtype == .float32 ? CK_F32 : CK_BF16
        return CPULinearWeights(
            inputs: inputs, outputs: outputs, dtype: dtype,
            packed: PackedWeights(weight, layout, bias: bias, type: type, kernels: kernels, pool: pool))
    }

    package func linear(_ x: Tensor, _ weights: any LinearWeights, activation: Activation) -> Tensor {
        cpuLinear(x, cpuWeights(weights), activation: activation)
    }

    func cpuWeights(_ weights: any LinearWeights) -> CPULinearWeights {
        guard let weights = weights as? CPULinearWeights else { preconditionFailure("weights of another backend") }
        return weights
    }

    func cpuLinear(_ x: Tensor, _ weights: CPULinearWeights, activation: Activation) -> Tensor {
        var y = storage.tensor([x.shape[0], weights.outputs], x.dtype)
        let target = y.writeAddress(), kind = type(of: x), outputs = weights.outputs
        runProduct(x, weights) { tile, rows, columns in
            kernels.finish_product(
                kind, activation.kernelActivation, tile.sums, Int64(tile.stride),
                weights.packed.bias?.vector(outputs, "bias").advanced(by: columns.lowerBound), nil,
                target + (rows.lowerBound * outputs + columns.lowerBound) * x.dtype.byteCount, Int64(outputs),
                Int64(rows.count), Int64(columns.count))
        }
        return y
    }

    package func addLinear(_ x: Tensor, _ weights: any LinearWeights, to target: inout Tensor, spans: [GateSpan]) {
        let weights = cpuWeights(weights), outputs = weights.outputs, elementBytes = x.dtype.byteCount
        precondition(
            target.dtype == x.dtype && target.shape.last == outputs
                && spans.reduce(0) { $0 + $1.rows.count } == x.shape[0]
                && spans.allSatisfy { $0.rows.upperBound <= target.shape[0] },
            "\(x.shape) added to \(target.shape) on \(spans.map(\.rows))")
        let address = target.writeAddress(), kind = type(of: x)
        runProduct(x, weights) { tile, rows, columns in
            forEachRun(of: spans.map(\.rows), within: rows) { span, from, source, count in
                kernels.finish_gated(
                    kind, tile.sums + (source - rows.lowerBound) * tile.stride, Int64(tile.stride),
                    weights.packed.bias?.vector(outputs, "bias").advanced(by: columns.lowerBound),
                    spans[span].gate?.vector(outputs, "gate").advanced(by: columns.lowerBound),
                    address + (from * outputs + columns.lowerBound) * elementBytes, Int64(outputs), Int64(count),
                    Int64(columns.count))
            }
        }
    }

    package func headSections(
        _ x: Tensor, _ weights: any LinearWeights, heads: Int, norms: [HeadNorm?]
    ) -> [Tensor] {
        let weights = cpuWeights(weights), width = weights.outputs / max(norms.count, 1), headSize = width / heads
        precondition(
            weights.outputs == width * norms.count && width == headSize * heads && headSize <= CK_HEAD_LIMIT,
            "\(norms.count) sections of \(heads) heads from \(weights.outputs) outputs")
        var results = norms.map { _ in storage.tensor([x.shape[0], width], x.dtype) }
        let targets = results.indices.map { results[$0].writeAddress() }
        let forms = norms.map { norm in norm.map { kernelNorm($0, headSize: headSize, rows: x.shape[0]) } }
        let kind = type(of: x)
        runProduct(x, weights, sections: norms.count, unit: headSize) { tile, rows, columns in
            let section = columns.lowerBound / width, column = columns.lowerBound - section * width
            let target = targets[section] + (rows.lowerBound * width + column) * x.dtype.byteCount
            let bias = weights.packed.bias?.vector(weights.outputs, "bias").advanced(by: columns.lowerBound)
            if let form = forms[section] {
                withUnsafePointer(to: form) { form in
                    kernels.finish_heads(
                        kind, tile.sums, Int64(tile.stride), bias, form, Int64(rows.lowerBound), target, Int64(width),
                        Int64(rows.count), Int64(columns.count))
                }
            } else {
                kernels.finish_product(
                    kind, CK_NONE, tile.sums, Int64(tile.stride), bias, nil, target, Int64(width), Int64(rows.count),
                    Int64(columns.count))
            }
        }
        withExtendedLifetime(norms) {}
        return results
    }

    /// The addresses of a norm, whose tensors outlive the use.
    private func kernelNorm(_ norm: HeadNorm, headSize: Int, rows: Int) -> ck_head_norm {
        let rotary = norm.rotary, angles = rotary.map { ($0.period - $0.start) * headSize } ?? 0
        precondition(rotary == nil || headSize % 2 == 0, "a rotation needs channel pairs, not \(headSize) channels")
        precondition(rotary.map { $0.period > 0 && rows % $0.period == 0 } ?? true, "\(rows) rows are no sequences")
        return ck_head_norm(
            head_size: Int64(headSize), epsilon: norm.epsilon, weight: norm.weight.vector(headSize, "weight"),
            bias: norm.bias.vector(headSize, "bias"), cosines: rotary?.cosines.vector(angles, "cosines"),
            sines: rotary?.sines.vector(angles, "sines"), rotary_start: Int64(rotary?.start ?? 0),
            period: Int64(rotary?.period ?? max(rows, 1)))
    }

    /// Calls `body(span, row of the target, row of the source, count)` for the parts of spans whose rows, counted one
    /// span after the other, lie within `range`.
    func forEachRun(
        of spans: [Range<Int>], within range: Range<Int>, _ body: (_ span: Int, Int, Int, Int) -> Void
    ) {
        var start = 0
        for (index, span) in spans.enumerated() {
            let common = range.clamped(to: start..<(start + span.count))
            if !common.isEmpty {
                body(index, span.lowerBound + common.lowerBound - start, common.lowerBound, common.count)
            }
            start += span.count
        }
    }
}

extension CPUBackend {
    /// Rows of one tile: its sums and a panel of weights share a core's second-level cache.
    private static let rowTile = 240, columnTile = 512

    /// `x Wᵀ` tile by tile; `finish` gets the sums of a tile with its rows and columns. Tiles do not cross the borders
    /// of `sections`, and hold whole `unit`s of columns.
    ///
    /// A sum does not depend on the tile it is made in, so the tiles may depend on the number of threads.
    private func runProduct(
        _ x: Tensor, _ weights: CPULinearWeights, sections: Int = 1, unit: Int = 1,
        _ finish: (_ tile: ProductTile, _ rows: Range<Int>, _ columns: Range<Int>) -> Void
    ) {
        precondition(
            x.shape.count == 2 && x.shape[1] == weights.inputs && x.dtype == weights.dtype,
            "linear of \(x.dtype) \(x.shape) with \(weights.dtype) [\(weights.outputs), \(weights.inputs)]")
        let rows = x.shape[0], packed = weights.packed
        guard rows > 0, weights.outputs > 0 else { return }
        let words = ProductRows(x, for: packed, backend: self)
        let grid = TileGrid(
            rows: rows, columns: weights.outputs, sections: sections,
            unit: leastCommonMultiple(unit, Int(kernels.product_panel())), threads: pool.threads,
            rowTile: Self.rowTile, columnTile: Self.columnTile)
        let bytes = ProductTile.scratchBytes(rows: grid.rowTile, columns: grid.widestTile, segments: 1)
        withExtendedLifetime((x, weights, words)) {
            pool.run(grid.count) { part, member in
                let (rows, columns) = grid[part]
                // Packed panels begin at multiples of the panel; a section may begin inside one.
                let panel = Int(kernels.product_panel()), first = columns.lowerBound / panel * panel
                var tile = ProductTile(
                    packed, rows: rows.count, first: first, columns: columns.upperBound - first,
                    scratch: scratch.bytes(bytes, member: member), kernels: kernels
                ) { list in
                    for row in 0..<rows.count { list[row] = words.address + (rows.lowerBound + row) * words.stride }
                }
                tile.sums += columns.lowerBound - first
                words.dequantize(tile, rows: rows, columns: columns, kernels: kernels)
                finish(tile, rows, columns)
            }
        }
    }

    private func leastCommonMultiple(_ a: Int, _ b: Int) -> Int {
        var (x, y) = (a, b)
        while y != 0 { (x, y) = (y, x % y) }
        return a / x * b
    }
}

/// Rows of activations in the words of a product: where they lie, or a converted copy.
private struct ProductRows {
    private let holder: Tensor
    private let rowScales: Tensor?
    private let weights: PackedWeights
    let address: UnsafeRawPointer
    /// Bytes from one row to the next.
    let stride: Int

    init(_ x: Tensor, for weights: PackedWeights, backend: CPUBackend) {
        self.weights = weights
        let rows = x.shape[0], depth = x.shape[1], kind = backend.type(of: x), kernels = backend.kernels
        if weights.type != CK_I8, kernels.product_reads_rows(kind, Int64(depth)) {
            holder = x
            rowScales = nil
            address = x.readAddress
            stride = depth * x.dtype.byteCount
            return
        }
        stride = Int(kernels.product_words(weights.type, Int64(depth))) * 4
        var words = backend.storage.tensor([rows * stride], .uint8)
        let target = words.writeAddress(), source = x.readAddress, isInt8 = weights.type == CK_I8
        var scales = Tensor(uninitialized: [isInt8 ? rows : 0])
        let s = scales.writeAddress().assumingMemoryBound(to: Float.self)
        withExtendedLifetime(x) {
            backend.pool.run(rows: rows, grain: backend.grain(channels: depth)) { part, _ in
                if isInt8 {
                    kernels.int8_rows(
                        kind, source, Int64(depth), Int64(part.lowerBound), Int64(part.upperBound), target, s)
                } else {
                    kernels.row_words(
                        kind, source, Int64(depth), Int64(depth), Int64(part.lowerBound), Int64(part.upperBound),
                        target)
                }
            }
        }
        holder = words
        rowScales = isInt8 ? scales : nil
        address = UnsafeRawPointer(target)
    }

    /// Turns the sums of an int8 product into values.
    func dequantize(_ tile: ProductTile, rows: Range<Int>, columns: Range<Int>, kernels: ck_table) {
        guard let rowScales, let scales = weights.scales, let corrections = weights.corrections else { return }
        let correction = corrections.readAddress.assumingMemoryBound(to: Int32.self)
        var form = ck_int8_scales(
            row_scales: rowScales.vector(rowScales.count, "scales") + rows.lowerBound,
            column_scales: scales.vector(scales.count, "scales") + columns.lowerBound,
            corrections: correction + columns.lowerBound)
        kernels.int8_values(tile.sums, Int64(tile.stride), Int64(rows.count), Int64(columns.count), &form)
    }
}

/// The tiles of a product. Rows vary fastest, so that threads share the weights they read.
private struct TileGrid {
    private let rows: Int
    private let columnRanges: [Range<Int>]
    let rowTile: Int

    var count: Int { (rows + rowTile - 1) / rowTile * columnRanges.count }
    var widestTile: Int { columnRanges.reduce(0) { max($0, $1.count) } + 64 }

    init(rows: Int, columns: Int, sections: Int, unit: Int, threads: Int, rowTile: Int, columnTile: Int) {
        self.rows = rows
        let width = columns / sections, wanted = max(unit, columnTile / unit * unit)
        var ranges: [Range<Int>] = []
        for section in 0..<sections {
            for start in stride(from: 0, to: width, by: wanted) {
                ranges.append(section * width + start..<section * width + min(width, start + wanted))
            }
        }
        columnRanges = ranges
        // Four tiles a thread even out the last ones; smaller tiles than 48 rows only cost.
        let tilesWanted = max(1, (4 * threads + ranges.count - 1) / ranges.count)
        let even = (rows + tilesWanted - 1) / tilesWanted
        self.rowTile = min(rowTile, max(48, (even + CK_ROW_TILE - 1) / Int(CK_ROW_TILE) * Int(CK_ROW_TILE)))
    }

    subscript(part: Int) -> (rows: Range<Int>, columns: Range<Int>) {
        let rowTiles = (rows + rowTile - 1) / rowTile, row = part % rowTiles * rowTile
        return (row..<min(rows, row + rowTile), columnRanges[part / rowTiles])
    }
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
