import CKernels
package import Tensor

extension CPUBackend {
    package func convolution(
        _ frames: [Tensor], _ weights: any ConvolutionWeights, added: [Tensor]?, margins: RowMargins
    ) -> [Tensor] {
        run(frames, weights, .none, added: added, margins: margins)
    }

    package func enlargedConvolution(
        _ frames: [Tensor], _ weights: any ConvolutionWeights, margins: RowMargins
    ) -> [Tensor] {
        run(frames, weights, .doubling, added: nil, margins: margins)
    }

    package func halvedConvolution(_ frames: [Tensor], _ weights: any ConvolutionWeights) -> [Tensor] {
        run(frames, weights, .halving, added: nil, margins: .none)
    }

    private func run(
        _ frames: [Tensor], _ weights: any ConvolutionWeights, _ resizing: CPUConvolutionWeights.Resizing,
        added: [Tensor]?, margins: RowMargins
    ) -> [Tensor] {
        guard let weights = weights as? CPUConvolutionWeights else { preconditionFailure("weights of another backend") }
        precondition(weights.resizing == resizing, "weights for \(weights.resizing) in a convolution for \(resizing)")
        let run = ConvolutionRun(frames: frames, weights: weights, added: added, margins: margins, backend: self)
        var results = (0..<run.count).map { _ in storage.tensor(run.resultShape, run.dtype) }
        guard run.count > 0, results[0].count > 0 else { return results }
        let targets = results.indices.map { results[$0].writeAddress() }
        let bytes = run.scratchBytes
        withExtendedLifetime(run) {
            pool.run(run.partCount) { part, member in
                run.compute(
                    run.part(part), into: targets, scratch: scratch.bytes(bytes, member: member), kernels: kernels)
            }
        }
        return results
    }
}

/// One convolution on its way: frames as words, tiles of pixels, and what is added.
private struct ConvolutionRun {
    let weights: CPUConvolutionWeights
    let dtype: DType
    /// Of a frame.
    private let sourceHeight: Int
    private let sourceWidth: Int
    private let margins: RowMargins
    /// Of the result before its enlargement, without its margins.
    private let height: Int
    private let width: Int
    /// Frames of the result.
    let count: Int
    private let words: [FrameWords]
    private let residual: [Tensor]?
    private let bias: Tensor?
    private let kind: ck_type
    private let tiles: [PixelTile]
    private let columnRanges: [Range<Int>]
    private let zeros: UnsafeRawPointer

    /// Pixels and columns of one tile: its sums and a panel of weights share a core's second-level cache.
    private static let pixelTile = 240, columnTile = 256

    init(
        frames: [Tensor], weights: CPUConvolutionWeights, added: [Tensor]?, margins: RowMargins, backend: CPUBackend
    ) {
        precondition(frames.count >= weights.kernel[0], "\(frames.count) frames under a kernel \(weights.kernel)")
        let shape = frames[0].shape
        precondition(
            shape.count == 3 && shape[2] == weights.inputs
                && frames.allSatisfy { $0.shape == shape && $0.dtype == weights.dtype },
            "a convolution of \(frames[0].dtype) \(shape) by \(weights.dtype) \(weights.kernel) from \(weights.inputs)")
        precondition(weights.step == 1 || margins == .none, "a halving convolution has no margins")
        self.weights = weights
        self.margins = margins
        dtype = weights.dtype
        sourceHeight = shape[0]
        sourceWidth = shape[1]
        height = (shape[0] - margins.count) / weights.step
        width = shape[1] / weights.step
        count = frames.count - weights.kernel[0] + 1
        kind = backend.type(of: frames[0])
        words = frames.map { FrameWords($0, backend: backend) }
        zeros = weights.zeros.readAddress
        residual = added
        bias = weights.phases[0].weights.bias
        let resultShape = [height + margins.count, width, weights.outputs], (frameCount, type) = (count, dtype)
        precondition(
            added.map { $0.count == frameCount && $0.allSatisfy { $0.shape == resultShape && $0.dtype == type } }
                ?? true,
            "an addition of another shape")
        tiles = PixelTile.tiles(height: height, width: width, pixels: Self.pixelTile)
        columnRanges = stride(from: 0, to: weights.outputs, by: Self.columnTile).map {
            $0..<min(weights.outputs, $0 + Self.columnTile)
        }
    }

    var resultShape: [Int] {
        [height * weights.enlargement + margins.count, width * weights.enlargement, weights.outputs]
    }
    var partCount: Int { count * weights.phases.count * columnRanges.count * tiles.count }
    var scratchBytes: Int {
        let pixels = tiles.map(\.count).max() ?? 0, segments = weights.phases[0].taps.count
        return ProductTile.scratchBytes(rows: pixels, columns: Self.columnTile, segments: segments)
    }

    struct Part {
        var frame: Int
        var phase: ConvolutionPhase
        var tile: PixelTile
        var columns: Range<Int>
    }

    /// Tiles vary fastest, so that threads share the weights they read.
    func part(_ index: Int) -> Part {
        let tile = index % tiles.count, rest = index / tiles.count
        let columns = rest % columnRanges.count, image = rest / columnRanges.count
        return Part(
            frame: image / weights.phases.count, phase: weights.phases[image % weights.phases.count],
            tile: tiles[tile], columns: columnRanges[columns])
    }

    func compute(
        _ part: Part, into targets: [UnsafeMutableRawPointer], scratch: UnsafeMutableRawPointer, kernels: ck_table
    ) {
        let pixels = part.tile.count, slots = ProductTile.slots(pixels)
        let tile = ProductTile(
            part.phase.weights, rows: pixels, first: part.columns.lowerBound, columns: part.columns.count,
            scratch: scratch, kernels: kernels
        ) { list in
            for (segment, tap) in part.phase.taps.enumerated() {
                locate(words[part.frame + tap.frame], part.tile, dy: tap.y, dx: tap.x, into: list + segment * slots)
            }
        }
        finish(part, tile, into: targets[part.frame], kernels: kernels)
    }

    private func finish(_ part: Part, _ tile: ProductTile, into target: UnsafeMutableRawPointer, kernels: ck_table) {
        let outputs = weights.outputs, scale = weights.enlargement, elementBytes = dtype.byteCount
        let added = residual?[part.frame].readAddress
        let bias = bias?.vector(outputs, "bias").advanced(by: part.columns.lowerBound)
        for y in part.tile.rows {
            let row = y * scale + part.phase.row + margins.top,
                column = part.tile.columns.lowerBound * scale + part.phase.column
            let offset = ((row * width * scale + column) * outputs + part.columns.lowerBound) * elementBytes
            let sums = tile.sums + (y - part.tile.rows.lowerBound) * part.tile.columns.count * tile.stride
            kernels.finish_product(
                kind, CK_NONE, sums, Int64(tile.stride), bias, added.map { $0 + offset }, target + offset,
                Int64(outputs * scale), Int64(part.tile.columns.count), Int64(part.columns.count))
        }
    }

    /// Where every pixel of a tile reads its words, shifted by (dy, dx); zeros outside the image.
    private func locate(
        _ frame: FrameWords, _ tile: PixelTile, dy: Int, dx: Int, into list: UnsafeMutablePointer<UnsafeRawPointer>
    ) {
        var slot = 0
        for y in tile.rows {
            let fromRow = y * weights.step + dy + margins.top
            let isInside = fromRow >= 0 && fromRow < sourceHeight
            let row = frame.address + fromRow * sourceWidth * frame.stride
            for x in tile.columns {
                let from = x * weights.step + dx
                list[slot] = isInside && from >= 0 && from < sourceWidth ? row + from * frame.stride : zeros
                slot += 1
            }
        }
    }
}

/// A rectangle of pixels.
struct PixelTile: Sendable {
    var rows: Range<Int>
    var columns: Range<Int>

    var count: Int { rows.count * columns.count }

    /// Whole rows where several fit a tile of about `pixels`, else even pieces of one row.
    static func tiles(height: Int, width: Int, pixels: Int) -> [PixelTile] {
        guard height > 0, width > 0 else { return [] }
        if width <= pixels {
            let step = max(1, pixels / width)
            return stride(from: 0, to: height, by: step).map {
                PixelTile(rows: $0..<min(height, $0 + step), columns: 0..<width)
            }
        }
        let pieces = (width + pixels - 1) / pixels, step = (width + pieces - 1) / pieces
        return (0..<height).flatMap { y in
            stride(from: 0, to: width, by: step).map {
                PixelTile(rows: y..<y + 1, columns: $0..<min(width, $0 + step))
            }
        }
    }
}

/// A frame in the words of a product: where it lies, or a converted copy.
private struct FrameWords {
    private let holder: Tensor
    let address: UnsafeRawPointer
    /// Bytes from one pixel to the next.
    let stride: Int

    init(_ frame: Tensor, backend: CPUBackend) {
        let kind = backend.type(of: frame), kernels = backend.kernels, (rows, depth) = backend.rowsAndChannels(frame)
        guard !kernels.product_reads_rows(kind, Int64(depth)) else {
            holder = frame
            address = frame.readAddress
            stride = depth * frame.dtype.byteCount
            return
        }
        stride = Int(kernels.product_words(kind, Int64(depth))) * 4
        var words = backend.storage.tensor([rows * stride], .uint8)
        let target = words.writeAddress(), source = frame.readAddress
        withExtendedLifetime(frame) {
            backend.pool.run(rows: rows, grain: backend.grain(channels: depth)) { part, _ in
                kernels.row_words(
                    kind, source, Int64(depth), Int64(depth), Int64(part.lowerBound), Int64(part.upperBound), target)
            }
        }
        holder = words
        address = UnsafeRawPointer(target)
    }
}
