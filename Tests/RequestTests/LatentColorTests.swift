import Failure
import FoundationEssentials
import Request
import Tensor
import TestSupport
import Testing

@Suite struct LatentColorTests {
    private let known = LatentColors(
        factors: [[0.2, -0.1, 0.05], [0.0, 0.15, -0.1], [-0.05, 0.1, 0.2]], bias: [0.5, 0.4, 0.6])

    /// Latents whose colours are those of `known`, and frames of those colours.
    private func clip(frames: Int = 3, side: Int = 6) -> (latents: Tensor, frames: Tensor) {
        var generator = SeededGenerator(seed: 4)
        let values = (0..<frames * 3 * side * side).map { _ in Float.random(in: -1...1, using: &generator) }
        let latents = Tensor(values, shape: [frames, 3, side, side])
        var clip = Tensor(uninitialized: [(frames - 1) * 2 + 1, side * 2, side * 2, 3], dtype: .uint8)
        clip.withUnsafeMutableBytes { target in
            for frame in 0..<(frames - 1) * 2 + 1 {
                let source = known.picture(of: latents, frame: (frame + 1) / 2)
                source.withUnsafeBytes { colors in
                    for y in 0..<side * 2 {
                        for x in 0..<side * 2 {
                            for part in 0..<3 {
                                target[((frame * side * 2 + y) * side * 2 + x) * 3 + part] =
                                    colors[((y / 2) * side + x / 2) * 3 + part]
                            }
                        }
                    }
                }
            }
        }
        return (latents, clip)
    }

    @Test("the fit finds the map that coloured a clip")
    func finds() throws {
        let (latents, frames) = clip()
        var fit = LatentColorFit(channels: 3)
        try fit.add(latents: latents, frames: frames, ratios: .init(space: 2, time: 2))
        let (found, explained) = try fit.solved()
        #expect(explained > 0.999)
        // Colours were cut to whole levels: half a level below the truth in the mean.
        for (row, expected) in zip(found.factors + [found.bias], known.factors + [known.bias]) {
            #expect(zip(row, expected).allSatisfy { abs($0 - $1) < 0.005 }, "\(row) \(expected)")
        }
    }

    @Test("too few latents and frames of other latents are refused")
    func refusals() throws {
        let (latents, frames) = clip()
        var fit = LatentColorFit(channels: 3)
        #expect(throws: Failure.self) { try fit.solved() }
        let failure = #expect(throws: Failure.self) {
            try fit.add(latents: latents, frames: frames, ratios: .init(space: 2, time: 4))
        }
        #expect(failure?.code == "preview_fit_failed")
    }

    @Test("colours stay within what a byte holds")
    func saturates() {
        let bright = LatentColors(factors: [[10, -10, 0]], bias: [0.5, 0.5, 0.5])
        let picture = bright.picture(of: Tensor([1], shape: [1, 1, 1, 1]), frame: 0)
        #expect(picture.withUnsafeBytes { Array($0) } == [255, 0, 127])
    }

    @Test("the demo model says which colours its latents have")
    func demo() throws {
        let traits = try ModelFixtures.demo(), colors = try #require(traits.latentColors)
        #expect(colors.factors.count == traits.latentChannels && colors.bias.count == 3)
    }
}
