import CKernels
import Tensor

/// In what form the factors of a product are.
package enum ProductPrecision: Sendable, Hashable {
    /// As the activations.
    case activation
    /// Eight bits with one scale an output; activations are quantised row by row before the product.
    case int8
}

/// Weights packed for the products of CKernels: `outputs` columns over `segments` runs of `depth` channels.
final class PackedWeights: Sendable {
    let outputs: Int
    let segments: Int
    let depth: Int
    let type: ck_type
    /// Float32, or nil.
    let bias: Tensor?
    let packed: Tensor
    /// Of int8 weights: the scale of every output, and 128 times the sum of its weights (int32).
    let scales: Tensor?
    let corrections: Tensor?

    /// Packs `weight`, whose element (output, segment, channel) lies at the sum of the strides.
    init(_ weight: Tensor, _ layout: Layout, bias: Tensor?, type: ck_type, kernels: ck_table, pool: ParallelPool) {
        outputs = layout.outputs
        segments = layout.segments
        depth = layout.depth
        self.type = type
        self.bias = bias?.converted(to: .float32)
        let source = weight.dtype.kernelType == nil ? weight.converted(to: .float32) : weight
        guard let from = source.dtype.kernelType else { preconditionFailure("weights of \(weight.dtype)") }
        var weights = ck_weights(
            from: from, elements: source.readAddress, outputs: Int64(layout.outputs),
            segments: Int64(layout.segments), depth: Int64(layout.depth), output_stride: Int64(layout.outputStride),
            segment_stride: Int64(layout.segmentStride), channel_stride: Int64(layout.channelStride))
        let byteCount = Int(
            kernels.packed_weight_bytes(type, weights.outputs, weights.segments, weights.depth))
        var packed = Tensor(uninitialized: [byteCount], dtype: .uint8)
        let target = packed.writeAddress()
        let panel = Int(kernels.product_panel()), total = layout.outputs
        var scales = Tensor(uninitialized: [type == CK_I8 ? total : 0])
        var corrections = Tensor(uninitialized: [type == CK_I8 ? total : 0], dtype: .int32)
        let s = scales.writeAddress().assumingMemoryBound(to: Float.self)
        let c = corrections.writeAddress().assumingMemoryBound(to: Int32.self)
        withExtendedLifetime(source) {
            withUnsafePointer(to: &weights) { weights in
                pool.run(rows: (total + panel - 1) / panel, grain: 1) { part, _ in
                    let first = part.lowerBound * panel, count = min(panel, total - first)
                    if type == CK_I8 { kernels.int8_columns(weights, Int64(first), Int64(count), s, c) }
                    kernels.pack_weights(
                        type, weights, Int64(first), Int64(count), type == CK_I8 ? UnsafePointer(s) : nil, target)
                }
            }
        }
        // The file's bytes have been read once and are not needed again.
        weight.dropMappedPages()
        self.packed = packed
        self.scales = type == CK_I8 ? scales : nil
        self.corrections = type == CK_I8 ? corrections : nil
    }

    /// Where the elements of unpacked weights lie, in elements.
    struct Layout {
        var outputs: Int
        var segments: Int
        var depth: Int
        var outputStride: Int
        var segmentStride: Int
        var channelStride: Int
    }
}

/// One tile of a product: some rows, some columns, and scratch for them. The finished sums begin at `sums`.
struct ProductTile {
    var sums: UnsafeMutablePointer<Float>
    /// Floats from one row of sums to the next.
    var stride: Int

    /// Bytes of the row list and the sums of a tile.
    static func scratchBytes(rows: Int, columns: Int, segments: Int) -> Int {
        aligned(slots(rows) * segments * MemoryLayout<UnsafeRawPointer>.stride)
            + slots(rows) * stride(columns) * MemoryLayout<Float>.stride
    }

    static func slots(_ rows: Int) -> Int { (rows + CK_ROW_TILE - 1) / CK_ROW_TILE * CK_ROW_TILE }
    /// An odd number of cache lines, so that rows do not share a cache set.
    static func stride(_ columns: Int) -> Int { ((columns + 15) / 16 | 1) * 16 }

    /// Multiplies `rows` rows, whose segments `locate` writes into a list `[segments, slots]`, by columns
    /// [first, first + columns) of `weights`.
    init(
        _ weights: PackedWeights, rows: Int, first: Int, columns: Int, scratch: UnsafeMutableRawPointer,
        kernels: ck_table,
        locate: (UnsafeMutablePointer<UnsafeRawPointer>) -> Void
    ) {
        let slots = Self.slots(rows), count = slots * weights.segments
        let list = scratch.assumingMemoryBound(to: UnsafeRawPointer.self)
        locate(list)
        for segment in 0..<weights.segments {
            for slot in rows..<slots { list[segment * slots + slot] = list[segment * slots + rows - 1] }
        }
        let after = scratch + aligned(count * MemoryLayout<UnsafeRawPointer>.stride)
        sums = after.assumingMemoryBound(to: Float.self)
        stride = Self.stride(columns)
        var product = ck_product(
            type: weights.type, rows: Int64(rows), first: Int64(first), columns: Int64(columns),
            outputs: Int64(weights.outputs), segments: Int64(weights.segments), depth: Int64(weights.depth),
            words: list, packed: weights.packed.readAddress, result: sums, result_stride: Int64(stride))
        kernels.product(&product)
    }
}
