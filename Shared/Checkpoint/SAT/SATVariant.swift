/// The released models, for what their weights do not tell.
package enum SATVariant: String, Sendable, CaseIterable {
    case small = "2b"
    case large = "5b"
    case largeImage = "5b-i2v"
    case next = "1.5-5b"
    case nextImage = "1.5-5b-i2v"

    /// CogVideoX 1.5: patches of two latent frames.
    var hasTemporalPatches: Bool { self == .next || self == .nextImage }
    /// Models that see an image beside the noise.
    var readsImage: Bool { self == .largeImage || self == .nextImage }
    var usesRotary: Bool { self != .small }
    var usesLearnedPositions: Bool { self == .largeImage }

    var pipelineClass: String { readsImage ? "CogVideoXImageToVideoPipeline" : "CogVideoXPipeline" }
    var scalingFactor: Double { self == .small ? 1.15258426 : 0.7 }
    var snrShiftScale: Double { self == .small ? 3 : 1 }
    /// Native latent width and height as the released configurations have them.
    var sampleSize: (width: Int, height: Int) { hasTemporalPatches ? (300, 300) : (90, 60) }
    var sampleFrames: Int { hasTemporalPatches ? 81 : 49 }
}
