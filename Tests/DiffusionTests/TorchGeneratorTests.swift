import Diffusion
import Failure
import Tensor
import Testing

@Suite("The torch-compatible generator")
struct TorchGeneratorTests {
    static let dtypes: [(name: String, dtype: DType)] = [
        ("float32", .float32), ("bfloat16", .bfloat16), ("float16", .float16),
    ]

    @Test(
        "equals torch.randn bit for bit in every length, dtype and seed", arguments: [0, 1, 42, 4294967295, 4294967338])
    func matchesTorch(seed: UInt64) throws {
        let golden = try GoldenTensors("normals.safetensors")
        for count in [1, 5, 15, 16, 17, 31, 40, 128, 1000] {
            for (name, dtype) in Self.dtypes {
                var generator = TorchGenerator(seed: seed)
                let first = generator.randn(shape: [count], dtype: dtype)
                let second = generator.randn(shape: [count], dtype: dtype)
                let values = first.values + second.values + generator.randn(shape: [3]).values
                let expected = try golden.tensor("\(seed).\(count).\(name)").values
                #expect(values == expected, "seed \(seed), \(count) values of \(name)")
            }
        }
    }

    @Test("equals torch over all 1,123,200 values of a released model's first latents")
    func matchesTorchInBulk() throws {
        let golden = try Golden.load().normals
        var generator = TorchGenerator(seed: golden.seed)
        let latents = generator.randn(shape: golden.shape)
        #expect(String(fnv1a(latents.values.map { UInt64($0.bitPattern) })) == golden.fnv1aOfWords)
    }

    @Test("gives the numbers written down in the reference")
    func matchesWrittenNumbers() {
        var generator = TorchGenerator(seed: 42)
        let values = generator.randn(shape: [4, 10]).values
        #expect(Array(values[0..<4]) == [1.92691529, 1.48728406, 0.900717199, -2.10552096])
        #expect(values[39] == -1.28621554)
    }

    @Test("skips exactly what a draw consumes", arguments: [1, 2, 15, 16, 17, 40, 700])
    func skipping(count: Int) {
        for (_, dtype) in Self.dtypes {
            var drawing = TorchGenerator(seed: 9)
            var skipping = drawing
            _ = drawing.randn(shape: [count], dtype: dtype)
            skipping.skipNormals(count: count, dtype: dtype)
            #expect(drawing == skipping)
        }
    }

    @Test("continues from its saved state, a cached normal included")
    func savedState() throws {
        var generator = TorchGenerator(seed: 3)
        _ = generator.randn(shape: [700])
        _ = generator.randn(shape: [3])
        var restored = try TorchGenerator(state: generator.state)
        #expect(restored.randn(shape: [5]).values == generator.randn(shape: [5]).values)
        #expect(restored.randn(shape: [64]).values == generator.randn(shape: [64]).values)
    }

    @Test("refuses a damaged state")
    func damagedState() {
        var state = TorchGenerator(seed: 3).state
        #expect(throws: Failure.self) { try TorchGenerator(state: Array(state.dropLast())) }
        state[624 * 4 + 1] = 0xff
        #expect { try TorchGenerator(state: state) } throws: { ($0 as? Failure)?.code == "generator_state_invalid" }
    }
}
