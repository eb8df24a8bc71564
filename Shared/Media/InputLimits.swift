/// What a picture or video from outside may cost; beyond it is refused before memory is taken.
package struct InputLimits: Sendable, Hashable {
    /// Bytes of an image file.
    package var imageBytes = 64 << 20
    /// Bytes of a video file.
    package var videoBytes = 1 << 30
    /// Pixels of one picture, width × height.
    package var pixels = 64_000_000
    /// Width and height of one picture.
    package var side = 32_768
    /// Bytes of all RGB frames that are taken from a video.
    package var frameBytes = 4 << 30
    /// Seconds of a video that are read for the wanted frames.
    package var seconds = 600.0
    /// Pictures of a video that are decoded for the wanted frames.
    package var decodedFrames = 36_000

    package init() {}
}
