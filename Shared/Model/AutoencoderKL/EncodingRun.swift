package import Failure
import Tensor

/// One clip on its way through the encoder, a temporal chunk at a time.
///
/// The chunks are part of the model: group norms take their statistics over a whole chunk.
package struct EncodingRun: Sendable {
    private let encoder: AutoencoderKLEncoder
    /// `[T, H, W, 3]` float32 in [−1, 1].
    private let frames: Tensor
    private let chunks: [Range<Int>]
    private var caches = ConvolutionCaches()
    /// `[t, 2 · latentChannels, h, w]` a chunk.
    private var moments: [Tensor] = []
    /// Chunks that `next` has encoded.
    package var chunksDone: Int { moments.count }
    package var chunkCount: Int { chunks.count }

    private static let chunkFrames = 8

    init(encoder: AutoencoderKLEncoder, frames: Tensor) {
        self.encoder = encoder
        self.frames = frames
        chunks = Self.chunks(frames: frames.shape[0])
    }

    /// Eight frames each, the first with the rest: 49 → 9, 8, 8, 8, 8, 8.
    static func chunks(frames: Int) -> [Range<Int>] {
        let count = max(frames / chunkFrames, 1), rest = frames % chunkFrames
        return (0..<count).map { index in
            let start = index == 0 ? 0 : chunkFrames * index + rest
            return start..<min(chunkFrames * (index + 1) + rest, frames)
        }
    }

    /// Encodes the next chunk; false when none was left. Fails with `numeric_fault`.
    package mutating func next() throws(Failure) -> Bool {
        guard chunksDone < chunks.count else { return false }
        caches.isLastChunk = chunksDone == chunks.count - 1
        let chunk = try encoder.chunk(frames.rows(chunks[chunksDone]), caches: &caches)
        try chunk.requireFinite("Chunk \(chunksDone) of the encoded video", field: "frames")
        moments.append(encoder.channelsFirst(chunk))
        return true
    }

    /// What has been encoded so far.
    package var distribution: LatentDistribution { LatentDistribution(moments: Tensor.concatenated(moments)) }
}
