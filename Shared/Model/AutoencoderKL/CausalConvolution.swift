import Compute
import Failure
import Tensor

/// The last two input frames of every causal convolution, carried from one temporal chunk to the next, in memory or in
/// a file.
struct ConvolutionCaches: Sendable {
    private enum Kept: Sendable {
        case frame(Tensor)
        case place(NamelessFile.Place)
    }

    /// In the last chunk nothing is kept: no other will ask.
    var isLastChunk = false
    private var kept: [String: [Kept]] = [:]
    private let file: NamelessFile?
    /// Where the frames of a convolution lie in the file; they keep their place from chunk to chunk.
    private var offsets: [String: Int] = [:]
    private var end = 0

    /// - Parameter file: where the frames wait; nil keeps all in memory.
    init(file: NamelessFile? = nil) { self.file = file }

    /// The frames kept for a convolution, none before its first chunk.
    mutating func take(_ name: String) throws(Failure) -> [Tensor] {
        var frames: [Tensor] = []
        for item in kept.removeValue(forKey: name) ?? [] {
            switch item {
            case .frame(let frame): frames.append(frame)
            case .place(let place):
                guard let file else { preconditionFailure("a place without a file") }
                frames.append(try file.read(place))
            }
        }
        return frames
    }

    mutating func keep(_ frames: [Tensor], _ name: String) throws(Failure) {
        guard !isLastChunk else { return }
        guard let file, let size = frames.first?.byteCount else {
            kept[name] = frames.map { .frame($0) }
            return
        }
        let offset = offsets[name] ?? end
        if offsets[name] == nil {
            offsets[name] = end
            end += frames.count * size
        }
        var places: [Kept] = []
        for (index, frame) in frames.enumerated() {
            places.append(.place(try file.write(frame, at: offset + index * size)))
        }
        kept[name] = places
    }
}

/// A 3×3×3 convolution that sees no later frame (`CogVideoXCausalConv3d`).
///
/// Two frames stand before each chunk: the first frame twice, or the last two of the chunk before.
struct CausalConvolution: Sendable {
    private let name: String
    private let weights: any ConvolutionWeights

    private static let history = 2
    /// What the frames that are convolved at once may take.
    private static let groupBytes = 128 << 20

    static func expect(_ expected: inout ExpectedWeights, _ name: String, inputs: Int, outputs: Int) {
        expected.convolution("\(name).conv", inputs: inputs, outputs: outputs, kernel: [3, 3, 3])
    }

    init(_ loader: LayerLoader, _ name: String) throws(Failure) {
        self.name = name
        weights = try loader.convolution("\(name).conv")
    }

    /// T frames `[H, W, inputs]` → T frames `[H, W, outputs]`, with what `added` gives for each joining its sum.
    ///
    /// `count` frames are asked of `frame` in order, a group at a time, and let go when no later frame reads them: the
    /// whole input never exists at once. The margins of the results are empty.
    func callAsFunction(
        count: Int, margins: RowMargins, caches: inout ConvolutionCaches, backend: any Backend,
        added: (Range<Int>) -> [Tensor]? = { _ in nil }, frame: (Int) -> Tensor
    ) throws(Failure) -> [Tensor] {
        var results: [Tensor] = []
        var window = try caches.take(name)
        while results.count < count {
            let first = results.count
            var group = frame(first)
            let size = max(1, min(count - first, Self.groupBytes / max(group.byteCount, 1)))
            if window.isEmpty { window = Array(repeating: group, count: Self.history) }
            for index in first..<first + size {
                if index > first { group = frame(index) }
                window.append(group)
            }
            results += backend.convolution(window, weights, added: added(first..<first + size), margins: margins)
            window.removeFirst(window.count - Self.history)
        }
        try caches.keep(window, name)
        return results
    }
}
