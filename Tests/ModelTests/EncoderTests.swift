import Compute
import Diffusion
import Failure
import Model
import Tensor
import TestSupport
import Testing

@Suite("The autoencoder's encoder")
struct EncoderTests {
    private func encoder(_ golden: Golden, _ dtype: DType = .float32) throws -> AutoencoderKLEncoder {
        try AutoencoderKLEncoder(folder: golden.folder, backend: testBackend(), dtype: dtype)
    }

    @Test(
        "moments equal those of diffusers in float32, whole chunks or not",
        arguments: [("2b", 1), ("2b", 5), ("2b", 9), ("2b", 17), ("2b", 25), ("2b", 12), ("5b", 9), ("1.5", 17)])
    func parity(name: String, count: Int) throws {
        let golden = try Golden(name, file: "encoder"), reference = try golden("encode.\(count).moments")
        var told: [[Int]] = []
        let found = try encoder(golden).encode(frames: try golden("encode.\(count).frames")) {
            (done, all) throws(Failure) in told.append([done, all])
        }
        #expect(found.moments.shape == reference.shape)
        #expect(maxAbsoluteDifference(found.moments, reference) <= 1e-4)
        let chunks = max(1, count / 8)
        #expect(told == (1...chunks).map { [$0, chunks] })
    }

    @Test("a seed draws the reference's sample, and the mode is the mean", arguments: [1, 9, 25])
    func sample(count: Int) throws {
        let golden = try Golden("2b", file: "encoder")
        let found = LatentDistribution(moments: try golden("encode.\(count).moments"))
        var generator = TorchGenerator(seed: 42)
        let sample = found.sample(noise: generator.randn(shape: found.noiseShape))
        #expect(sample.shape == found.shape)
        #expect(maxAbsoluteDifference(sample, try golden("encode.\(count).sample")) <= 1e-5)
        let means = found.moments.slices.map { $0.rows(0..<found.shape[1]) }
        #expect(identical(found.mode, Tensor.stacked(means)))
    }

    @Test("extreme variances are clamped as in the reference")
    func clamped() throws {
        let moments = Tensor([1, 2, 100, -100], shape: [1, 4, 1, 1])
        let drawn = LatentDistribution(moments: moments).sample(noise: Tensor([1, 1], shape: [2, 1, 1, 1])).floats()
        #expect(abs(drawn[0] - 22027.466) < 0.01)
        #expect(drawn[1] == 2 + 3.0590232e-7)
    }

    @Test("bfloat16 means are within two per cent of the reference", arguments: [("2b", 17), ("5b", 9), ("1.5", 17)])
    func bfloat16(name: String, count: Int) throws {
        let golden = try Golden(name, file: "encoder")
        let found = try encoder(golden, .bfloat16).encode(frames: try golden("encode.\(count).frames"))
        let reference = LatentDistribution(moments: try golden("encode.\(count).moments"))
        let difference = relativeDifference(found.mode, reference.mode)
        #expect(difference <= 0.02, "\(difference)")
    }

    @Test(
        "frames that no encoder reads are refused with their shape",
        arguments: [[1, 16, 30, 3], [1, 20, 32, 3], [1, 16, 32, 4], [16, 32, 3]])
    func misshapen(shape: [Int]) throws {
        let golden = try Golden("5b", file: "encoder")
        #expect {
            try encoder(golden).encode(frames: Tensor(zeros: shape))
        } throws: {
            ($0 as? Failure)?.code == "frames_misshapen" && "\($0)".contains("\(shape)")
        }
    }

    @Test("a frame that is not a number is refused by name")
    func notANumber() throws {
        let golden = try Golden("5b", file: "encoder")
        var values = [Float](repeating: 0, count: 16 * 16 * 3)
        values[100] = .nan
        #expect {
            try encoder(golden).encode(frames: Tensor(values, shape: [1, 16, 16, 3]))
        } throws: {
            ($0 as? Failure)?.code == "numeric_fault"
        }
    }
}
