import Tensor

/// How a tensor of a diffusers checkpoint is made from one of a SAT checkpoint.
struct SATPiece: Sendable, Hashable {
    /// The key in the diffusers layout.
    let name: String
    /// The key in the SAT file.
    let source: String
    /// Which equal parts of the first axis it takes, in order, of how many; nil for the whole.
    var parts: [Int]?
    var partCount = 1
    /// Another shape for the same elements.
    var shape: [Int]?

    /// The shape it has, given its source's; nil when the source does not divide.
    func shape(from source: [Int]) -> [Int]? {
        if let shape {
            return shape.reduce(1, *) == source.reduce(1, *) ? shape : nil
        }
        guard let parts else { return source }
        guard let rows = source.first, rows % partCount == 0 else { return nil }
        return [rows / partCount * parts.count] + source.dropFirst()
    }

    /// Cuts it out of its source; `shape(from:)` must have given a shape. A view where the parts touch.
    func tensor(from source: Tensor) -> Tensor {
        if let shape { return source.reshaped(shape) }
        guard let parts, let rows = source.shape.first else { return source }
        let each = rows / partCount
        let pieces = parts.map { source.rows(($0 * each)..<(($0 + 1) * each)) }
        return pieces.count == 1 ? pieces[0] : Tensor.concatenated(pieces)
    }
}

/// What becomes of a key of a SAT checkpoint.
enum SATKey: Sendable, Hashable {
    case becomes([SATPiece])
    /// Tables that are computed, and parts of the training model that this checkpoint does not mean.
    case dropped
    case unknown
}
