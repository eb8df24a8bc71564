/// A small picture of what a running task is about to become.
package struct PreviewPicture: Sendable, Hashable {
    /// Steps done when it was made, and in all.
    package var step: Int
    package var totalSteps: Int
    /// Pixels.
    package var width: Int
    package var height: Int
    /// At most `Limits.previewBytes` long.
    package var jpeg: [UInt8]

    package init(step: Int, totalSteps: Int, width: Int, height: Int, jpeg: [UInt8]) {
        self.step = step
        self.totalSteps = totalSteps
        self.width = width
        self.height = height
        self.jpeg = jpeg
    }
}
