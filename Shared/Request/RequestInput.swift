/// Something that a request began with beside its text, by digest: what a finished file says about it.
package struct RequestInput: Sendable, Hashable, Codable {
    /// The request's field that named it: `image`, `video`, `control_video`, `caption_of` or `init_latents`.
    package var field: String
    /// SHA-256 in hexadecimal of the file's bytes as they were given; nil for tensors.
    package var file: String?
    /// SHA-256 in hexadecimal of what the stages read: pixels of the clip's size, or latents.
    package var content: String?
    /// Frames a second that were taken of a clip; nil: every frame as it is.
    package var sourceFramesPerSecond: Int?

    package init(field: String, file: String? = nil, content: String? = nil, sourceFramesPerSecond: Int? = nil) {
        self.field = field
        self.file = file
        self.content = content
        self.sourceFramesPerSecond = sourceFramesPerSecond
    }

    enum CodingKeys: String, CodingKey {
        case field, file, content
        case sourceFramesPerSecond = "source_fps"
    }
}
