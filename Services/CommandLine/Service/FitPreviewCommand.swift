package import ArgumentParser
import Checkpoint
import Compute
import Diffusion
import Failure
import Foundation
import Media
import Model
import Request
import Tensor

/// `zoetrope models fit-preview DIR`: finds which colours the latents of a model's autoencoder have.
package struct FitPreviewCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "fit-preview",
        abstract: "Fit the colours of a model's latents, which previews of running jobs need.",
        discussion: """
            Encodes clips with the model's own encoder and finds by least squares which colour each latent stands for; \
            the result goes into the folder's zoetrope.json. Without --video the clips are drawn here: coloured shapes \
            that drift and fade.
            """)

    @Argument(help: "Folder in diffusers layout.") package var folder: String
    @Option(help: "Clip to learn from; repeatable. Clips of the kind that the model makes are best.")
    package var video: [String] = []
    @Option(help: "Without --video: how many clips are drawn.") package var samples = 16
    @Option(help: "Pixels of a side that clips are brought to, a multiple of 16.") package var side = 128
    @Option(help: "Frames of a clip that are used, one more than a multiple of 8.") package var frames = 17
    @Option(help: "Threads to use. [default: one for each CPU]") package var threads = 0
    @Flag(help: "Print the factors and change nothing.") package var dryRun = false

    package init() {}

    package func validate() throws {
        guard (1...1000).contains(samples), side >= 16, side <= 1024, side % 16 == 0, frames >= 1, frames % 8 == 1
        else {
            throw ValidationError(
                "--samples goes from 1 to 1000, --side to 1024 in multiples of 16, --frames is one more than a "
                    + "multiple of 8.")
        }
    }

    package func run() async throws {
        let folder = try ModelFolder(path: folder)
        let encoder = try AutoencoderKLEncoder(
            folder: folder, backend: CPUBackend(threads: threads), dtype: .float32)
        let ratios = LatentColorFit.Ratios(
            space: folder.vae.spatialCompressionRatio, time: folder.vae.temporalCompressionRatio)
        var fit = LatentColorFit(channels: folder.vae.latentChannels)
        let count = video.isEmpty ? samples : video.count
        for index in 0..<count {
            let clip =
                video.isEmpty
                ? DrawnClip.frames(seed: UInt64(index), count: frames, side: side) : try read(video[index])
            let latents = try encoder.encode(frames: ModelSpace.normalized(clip))
            let scaled = latents.mode.scaled(by: Float(folder.vae.scalingFactor)).reshaped(latents.shape)
            try fit.add(latents: scaled, frames: clip, ratios: ratios)
            Console.print("  clip \(index + 1) of \(count): \(latents.shape[0]) latent frames")
        }
        let (colors, explained) = try fit.solved()
        Console.print(
            String(format: "%d latents; the factors explain %.1f %% of the colours", fit.count, explained * 100))
        let text = try ZoetropeJSON.setting(colors, in: folder.path)
        if dryRun { return Console.print(text) }
        try OutputFiles.write(Data(text.utf8), to: ZoetropeJSON.path(folder.path))
        Console.print("wrote \(ZoetropeJSON.path(folder.path))")
    }

    /// The first frames of a clip, brought to the side that is asked for.
    private func read(_ path: String) throws(Failure) -> Tensor {
        guard let bytes = FileManager.default.contents(atPath: path), !bytes.isEmpty else {
            throw Failure("media_unreadable", "\(path) cannot be read or is empty.", field: "video")
        }
        let clip = try InputVideo(file: Tensor(bytes: Array(bytes)), frames: frames).frames
        guard clip.shape[0] == frames else {
            throw Failure(
                "source_too_short", "\(path) has \(clip.shape[0]) frames, and \(frames) are to be used.",
                field: "video", remedy: "Give longer clips, or a smaller --frames.")
        }
        return try ImageFit.cover.fitted(clip, width: side, height: side)
    }
}

/// A folder's `zoetrope.json`, other fields kept.
enum ZoetropeJSON {
    static func path(_ folder: String) -> String { "\(folder)/zoetrope.json" }

    /// The file's text with these colours. Fails with `model_config_invalid` when what is there is no JSON object.
    static func setting(_ colors: LatentColors, in folder: String) throws(Failure) -> String {
        var fields: [String: Any] = [:]
        if let bytes = FileManager.default.contents(atPath: path(folder)) {
            guard let known = try? JSONSerialization.jsonObject(with: bytes) as? [String: Any] else {
                throw Failure("model_config_invalid", "\(path(folder)) is no JSON object.", field: "zoetrope.json")
            }
            fields = known
        }
        fields["latent_rgb_factors"] = nil
        fields["latent_rgb_bias"] = nil
        var lines = fields.keys.sorted().compactMap { name -> String? in
            let value = try? JSONSerialization.data(
                withJSONObject: fields[name] as Any, options: [.fragmentsAllowed, .withoutEscapingSlashes])
            return value.map { "  \"\(name)\": \(String(decoding: $0, as: UTF8.self))" }
        }
        let rows = colors.factors.map { "    [\(list($0))]" }.joined(separator: ",\n")
        lines.append("  \"latent_rgb_factors\": [\n\(rows)\n  ]")
        lines.append("  \"latent_rgb_bias\": [\(list(colors.bias))]")
        return "{\n\(lines.joined(separator: ",\n"))\n}\n"
    }

    private static func list(_ numbers: [Double]) -> String { numbers.map { "\($0)" }.joined(separator: ", ") }
}

/// Clips without a camera: a ground that fades from one colour to another, and shapes that drift over it.
enum DrawnClip {
    /// uint8 RGB `[count, side, side, 3]`, the same for the same seed.
    static func frames(seed: UInt64, count: Int, side: Int) -> Tensor {
        var generator = TorchGenerator(seed: seed)
        let shapes = 6
        // Twelve numbers a shape, and two colours of the ground.
        let draws = generator.randn(shape: [shapes * 12 + 12]).floats()
        let units = draws.map { 0.5 + 0.5 * squashed($0 * 1.2) }
        var clip = Tensor(uninitialized: [count, side, side, 3], dtype: .uint8)
        clip.withUnsafeMutableBytes { target in
            var place = 0
            for frame in 0..<count {
                let time = Float(frame) / Float(max(1, count - 1))
                for y in 0..<side {
                    for x in 0..<side {
                        let (u, v) = (Float(x) / Float(side), Float(y) / Float(side))
                        for part in 0..<3 {
                            let top = units[shapes * 12 + part], bottom = units[shapes * 12 + 3 + part]
                            var value = top + (bottom - top) * v
                            for shape in 0..<shapes {
                                let base = shape * 12
                                let dx = u - units[base] - 0.3 * time * draws[base + 1]
                                let dy = v - units[base + 2] - 0.3 * time * draws[base + 3]
                                let radius = 0.08 + 0.25 * units[base + 4]
                                let inside = max(0, min(1, (1.2 - (dx * dx + dy * dy) / (radius * radius)) * 2.5))
                                value += (units[base + 5 + part] - value) * inside
                            }
                            target[place] = UInt8(max(0, min(255, value * 255)))
                            place += 1
                        }
                    }
                }
            }
        }
        return clip
    }

    /// Into −1 … 1.
    private static func squashed(_ x: Float) -> Float { x / (1 + abs(x)) }
}
