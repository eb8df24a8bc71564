/// Bounds of a request that no model moves.
package enum RequestLimits {
    /// UTF-8 bytes of a prompt: many times what any text encoder reads, and small enough for the bus.
    package static let promptBytes = 8 * 1024
    /// Pixels of one side.
    package static let sidePixels = 4096
    package static let frames = 1025
    package static let framesPerSecond = 1...120
    package static let guidanceScale = 0.0...100.0
    /// The largest threshold of a step cache: a change of the whole.
    package static let stepCacheThreshold = 1.0
    /// Steps that may share one attention.
    package static let stepCacheRange = 2...10
    /// Adapters of one request.
    package static let adapters = 8
    /// What an adapter's scale may be multiplied by.
    package static let adapterWeight = -10.0...10.0
    /// Seconds of video that `seconds` may ask for.
    package static let seconds = 1...1024
    /// Decoders that share one decode.
    package static let decodeWorkers = 1...16
    /// Frames of a clip that are shown to whoever captions it.
    package static let captionFrames = 8
    /// Pixels of the longer side of those.
    package static let captionSide = 512
    /// Videos that one request may ask for.
    package static let videos = 1...16
    /// Bytes of an idempotency key.
    package static let idempotencyKeyBytes = 128
}
