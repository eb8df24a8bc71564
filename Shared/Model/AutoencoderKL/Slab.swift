import Compute
import Failure
import Tensor

/// The rows that are computed here: all of an image, or a member's slab of it.
///
/// Frames of a slab have a margin towards each neighbour. A convolution leaves the margins of its result empty;
/// `complete` fills them with the neighbours' rows before anybody reads them.
struct Slab: Sendable {
    let margins: RowMargins
    private let exchange: (any SlabExchange)?

    /// The whole image.
    static let whole = Slab(margins: .none, exchange: nil)

    private init(margins: RowMargins, exchange: (any SlabExchange)?) {
        self.margins = margins
        self.exchange = exchange
    }

    init(_ member: SlabMember) {
        self.init(margins: member.plan.margins(of: member.index), exchange: member.exchange)
    }

    /// Fills the margins of frames `[rows, W, C]` with the rows of the neighbours.
    func complete(_ frames: inout [Tensor]) throws(Failure) {
        guard let exchange, margins.count > 0, let first = frames.first else { return }
        let own = margins.top..<first.shape[0] - margins.bottom
        let top = margins.top > 0 ? own.lowerBound..<own.lowerBound + margins.top : nil
        let bottom = margins.bottom > 0 ? own.upperBound - margins.bottom..<own.upperBound : nil
        let (above, below) = try exchange.exchange(
            top: top.map { Self.gathered(frames, $0) }, bottom: bottom.map { Self.gathered(frames, $0) })
        if let above { try Self.scatter(above, into: &frames, row: 0) }
        if let below { try Self.scatter(below, into: &frames, row: own.upperBound) }
    }

    /// The sums over the whole image.
    func reduce(_ sums: GroupSums) throws(Failure) -> GroupSums {
        guard let exchange else { return sums }
        let values = try exchange.reduce(sums.values)
        guard values.count == sums.values.count else {
            throw Failure(
                "slab_mismatched", "\(values.count) sums came where \(sums.values.count) were asked for",
                retry: .otherWorker)
        }
        return GroupSums(values: values)
    }

    /// The rows that belong to this slab, of a frame with margins.
    func own(_ frame: Tensor) -> Tensor { frame.rows(margins.top..<frame.shape[0] - margins.bottom) }

    /// `[T, rows, W, C]`
    private static func gathered(_ frames: [Tensor], _ rows: Range<Int>) -> Tensor {
        Tensor.stacked(frames.map { $0.rows(rows) })
    }

    private static func scatter(_ rows: Tensor, into frames: inout [Tensor], row: Int) throws(Failure) {
        let shape = frames[0].shape, rowBytes = frames[0].byteCount / shape[0]
        guard rows.dtype == frames[0].dtype, rows.shape.count == 4, rows.shape[0] == frames.count,
            rows.shape[2...] == shape[1...], row + rows.shape[1] <= shape[0]
        else {
            throw Failure(
                "slab_mismatched", "rows \(rows.dtype) \(rows.shape) came for \(frames.count) frames of \(shape)",
                retry: .otherWorker)
        }
        let bytes = rows.shape[1] * rowBytes
        rows.withUnsafeBytes { source in
            for index in frames.indices {
                frames[index].withUnsafeMutableBytes { target in
                    UnsafeMutableRawBufferPointer(rebasing: target[row * rowBytes..<row * rowBytes + bytes])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[index * bytes..<(index + 1) * bytes]))
                }
            }
        }
    }
}
