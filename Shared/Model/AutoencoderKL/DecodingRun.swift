package import Failure
package import Tensor

/// One clip, or a member's rows of it, on its way through the decoder, a temporal chunk at a time.
///
/// The chunks are part of the model: group norms take their statistics over a whole chunk.
package struct DecodingRun: Sendable {
    private let decoder: AutoencoderKLDecoder
    /// `[frames, height, width, channels]` float32, divided by the scaling factor: the slab's rows and its margins.
    private let latents: Tensor
    private let slab: Slab
    private let chunks: [Range<Int>]
    private var caches: ConvolutionCaches
    /// Chunks that `next` has returned.
    package private(set) var chunksDone = 0

    package var chunkCount: Int { chunks.count }

    private static let chunkLatentFrames = 2

    init(decoder: AutoencoderKLDecoder, latents: Tensor, slab: Slab, caches: ConvolutionCaches) {
        self.caches = caches
        self.decoder = decoder
        self.latents = latents
        self.slab = slab
        chunks = Self.chunks(latentFrames: latents.shape[0])
    }

    /// Pairs of latent frames, the first with the odd one: 13 → 3, 2, 2, 2, 2, 2.
    static func chunks(latentFrames: Int) -> [Range<Int>] {
        let count = max(latentFrames / chunkLatentFrames, 1)
        let rest = latentFrames % chunkLatentFrames
        return (0..<count).map { index in
            let start = index == 0 ? 0 : chunkLatentFrames * index + rest
            return start..<min(chunkLatentFrames * (index + 1) + rest, latentFrames)
        }
    }

    /// The next frames `[t, H, W, 3]` float32 in [0, 1], or nil after the last. Fails with `numeric_fault`.
    package mutating func next() throws(Failure) -> Tensor? {
        try nextPixels()?.scaled(by: 0.5, plus: 0.5, clampedTo: 0...1)
    }

    /// As `next`, but as the network gives them: about −1 … 1.
    mutating func nextPixels() throws(Failure) -> Tensor? {
        guard chunksDone < chunks.count else { return nil }
        caches.isLastChunk = chunksDone == chunks.count - 1
        let pixels = try decoder.chunk(latents.rows(chunks[chunksDone]), slab: slab, caches: &caches)
        // Before the clamp, which would hide infinities.
        try pixels.requireFinite("Chunk \(chunksDone) of the decoded video", field: "frames")
        chunksDone += 1
        return pixels
    }
}
