import Failure
import Media
import Request
import Stage
import Tensor
import Wire

/// Small pictures of the clean latents that a step foretells, for whoever looks: nothing is done while nobody does.
///
/// Somebody who looks slows the run by a few per cent at most: after a preview, twenty times its cost passes before the
/// next one.
struct LatentPreview: Sendable {
    private let colors: LatentColors
    /// Latent frames at the front that are padding (CogVideoX 1.5).
    private let padding: Int
    private var notBefore = ContinuousClock.now

    private static let frames = 4
    private static let tileWidth = 192
    private static let interval = Duration.milliseconds(200)

    init(colors: LatentColors, padding: Int) {
        self.colors = colors
        self.padding = padding
    }

    /// Shows clean latents `[1, F, C, h, w]` after `step` steps. A picture that cannot be made is not missed.
    mutating func show(_ original: Tensor?, step: Int, of total: Int, _ task: StageTask) {
        guard task.isWatched, let original, notBefore <= .now else { return }
        let start = ContinuousClock.now
        if let (jpeg, sheet) = try? picture(of: original) {
            task.show(
                PreviewPicture(
                    step: step, totalSteps: total, width: sheet.shape[1], height: sheet.shape[0], jpeg: jpeg))
        }
        let cost = start.duration(to: .now)
        notBefore = .now + max(Self.interval, cost * 20)
    }

    /// Frames of the clip side by side, as a JPEG that fits into a message, and the picture that it shows.
    func picture(of original: Tensor) throws(Failure) -> (jpeg: [UInt8], sheet: Tensor) {
        let latents = original.reshaped(Array(original.shape.dropFirst()))
        let first = min(padding, latents.shape[0] - 1)
        let count = min(Self.frames, latents.shape[0] - first)
        let indices = (0..<count).map { first + $0 * (latents.shape[0] - first - 1) / max(1, count - 1) }
        let pictures = indices.map { colors.picture(of: latents, frame: $0) }
        var scale = max(1, min(8, Self.tileWidth / latents.shape[3]))
        while true {
            let sheet = try sheet(pictures, scale: scale)
            for quality in [4, 10, 31] {
                let jpeg = try JPEGEncoder.encode(sheet, quality: quality)
                if jpeg.count <= Limits.previewBytes { return (jpeg, sheet) }
            }
            guard scale > 1 else {
                throw Failure("preview_too_large", "A preview of \(sheet.shape) does not fit into a message.")
            }
            scale /= 2
        }
    }

    private func sheet(_ pictures: [Tensor], scale: Int) throws(Failure) -> Tensor {
        var tiles: [Tensor] = []
        for picture in pictures {
            let tile = try ContactSheet.resized(
                picture, width: picture.shape[1] * scale, height: picture.shape[0] * scale)
            tiles.append(tile.reshaped([1] + tile.shape))
        }
        return try ContactSheet.render(frames: Tensor.concatenated(tiles), columns: tiles.count)
    }
}
