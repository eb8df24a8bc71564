package import Diffusion

/// The arithmetic of the networks. Noise and the latents between steps are float32 in all of them.
package enum Precision: String, Sendable, Hashable, Codable, CaseIterable {
    case float32
    case bfloat16
    /// The transformer's large products on weights and activations of eight bits; everything else in bfloat16.
    case int8
}

/// The file format of the finished video.
package enum OutputContainer: String, Sendable, Hashable, Codable, CaseIterable {
    /// H.264 in MP4.
    case mp4
    /// VP9 in WebM.
    case webm
    /// Animated GIF.
    case gif
    /// Lossless FFV1 in Matroska.
    case mkv

    /// The HTTP content type of such a file.
    package var mediaType: String {
        switch self {
        case .mp4: "video/mp4"
        case .webm: "video/webm"
        case .gif: "image/gif"
        case .mkv: "video/x-matroska"
        }
    }
}

/// Where the job ends.
package enum OutputType: String, Sendable, Hashable, Codable, CaseIterable {
    /// A video file, a contact sheet and a thumbnail.
    case video
    /// The decoded frames, kept durably.
    case frames
    /// The final latents.
    case latent
}

/// What a clip begins with beside its prompt.
package enum Conditioning: String, Sendable, Hashable, Codable, CaseIterable {
    /// Nothing: text to video.
    case text
    /// The first frame (`CogVideoXImageToVideoPipeline`).
    case image
    /// A clip whose noisy latents are denoised (`CogVideoXVideoToVideoPipeline`).
    case video
    /// A clip that every step looks at (`CogVideoXFunControlPipeline`).
    case control

    /// Whether the condition's channels follow those of the latents in the transformer's input.
    package var joinsChannels: Bool { self == .image || self == .control }
    /// Whether its latents are drawn from their distribution, with the first normals of the seed; else they are its mode.
    package var isSampled: Bool { self == .image || self == .video }
}

/// How a picture of another shape becomes one of the clip's size.
package enum PictureFit: String, Sendable, Hashable, Codable, CaseIterable {
    /// Each side by itself, as diffusers does.
    case stretch
    /// Scaled to cover the clip's frame, and what hangs over cut off evenly.
    case cover
    /// Scaled to fit into the clip's frame, on black.
    case contain
}

/// A sampler travels and is stored under its short name, `ddim` or `dpm`.
extension SamplerKind: Codable {}
