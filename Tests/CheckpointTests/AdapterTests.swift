import Checkpoint
import Failure
import Foundation
import Tensor
import Testing

@Suite("LoRA adapters")
struct AdapterTests {
    /// scale · up · down in double precision, row-major.
    private func product(_ delta: AdapterWeights.Delta) -> [Double] {
        let down = delta.down.floats(), up = delta.up.floats()
        let inputs = delta.down.shape[1], rank = delta.rank
        return (0..<delta.up.shape[0]).flatMap { row in
            (0..<inputs).map { column in
                delta.scale
                    * (0..<rank).reduce(0) { $0 + Double(up[row * rank + $1]) * Double(down[$1 * inputs + column]) }
            }
        }
    }

    /// Compares with what peft adds to each weight.
    private func compare(_ adapter: AdapterWeights, with file: String, factor: Double = 1) throws {
        let expected = try SafetensorsFile(path: Fixture.path("adapter-deltas.safetensors"))
        let names = expected.names.filter { $0.hasPrefix("\(file)/") }
        #expect(adapter.layers == names.map { String($0.dropFirst(file.count + 1)) }.sorted())
        for name in names {
            let delta = try #require(adapter.delta(for: String(name.dropFirst(file.count + 1))))
            let difference =
                zip(product(delta), try expected.tensor(name).floats())
                .map { abs($0 * factor - Double($1)) }.max() ?? .infinity
            #expect(difference < 1e-6, "\(name)")
        }
    }

    private func open(_ tensors: [String: Tensor], metadata: [String: String] = [:]) throws -> AdapterWeights {
        let scratch = try ScratchFolder()
        let path = "\(scratch.path)/a.safetensors"
        try SafetensorsWriter.write(tensors: tensors, metadata: metadata, to: path)
        return try AdapterWeights(path: path)
    }

    private func code(_ tensors: [String: Tensor], metadata: [String: String] = [:]) throws -> String {
        try #require(throws: Failure.self) { try open(tensors, metadata: metadata) }.code
    }

    private static let layer = "transformer_blocks.1.attn1.to_q"
    private static let down = Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3])
    private static let up = Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [4, 2])

    private func pair(_ down: String, _ up: String) -> [String: Tensor] { [down: Self.down, up: Self.up] }

    private func diffusers(_ layer: String = layer) -> [String: Tensor] {
        pair("transformer.\(layer).lora_A.weight", "transformer.\(layer).lora_B.weight")
    }

    @Test("diffusers without metadata: scale 1, and a warning that says so")
    func plain() throws {
        let adapter = try AdapterWeights(path: Fixture.path("adapter-diffusers.safetensors"))
        #expect(adapter.format == .diffusers && adapter.rank == 4 && adapter.scales == [1])
        #expect(adapter.warnings.count == 1 && adapter.warnings[0].contains("does not say its alpha"))
        try compare(adapter, with: "adapter-diffusers.safetensors")
        #expect(adapter.delta(for: "proj_out") == nil)
        #expect(try adapter.digest().count == 64)
    }

    @Test("diffusers with metadata: alphas and ranks of single layers, and a convolution")
    func metadata() throws {
        let adapter = try AdapterWeights(path: Fixture.path("adapter-metadata.safetensors"))
        #expect(adapter.ranks == [2, 4] && adapter.rank == 4)
        #expect(adapter.delta(for: "transformer_blocks.1.attn1.to_q")?.scale == 0.25)
        #expect(adapter.delta(for: "transformer_blocks.0.attn1.to_q")?.scale == 2)
        #expect(adapter.delta(for: "transformer_blocks.0.ff.net.0.proj")?.scale == 4)
        #expect(adapter.delta(for: "patch_embed.proj")?.down.shape == [4, 16])
        #expect(adapter.warnings == ["the ranks differ from layer to layer"])
        try compare(adapter, with: "adapter-metadata.safetensors")
    }

    @Test("a folder of peft, rank-stabilised")
    func peft() throws {
        let adapter = try AdapterWeights(path: Fixture.path("adapter-peft"))
        #expect(adapter.format == .peft && adapter.scales == [3] && adapter.warnings == [])
        try compare(adapter, with: "adapter-peft")
    }

    @Test("kohya's names with alphas, and SAT's in a checkpoint of torch")
    func otherNames() throws {
        let kohya = try AdapterWeights(path: Fixture.path("adapter-kohya.safetensors"))
        #expect(kohya.format == .kohya && kohya.scales == [0.5] && kohya.warnings == [])
        try compare(kohya, with: "adapter-diffusers.safetensors", factor: 2)
        let sat = try AdapterWeights(path: Fixture.path("adapter-sat.pt"))
        #expect(sat.format == .sat && sat.scales == [0.25] && sat.warnings.count == 1)
        try compare(sat, with: "adapter-diffusers.safetensors", factor: 4)
    }

    @Test(
        "older spellings are the same layer",
        arguments: [
            ("transformer.\(layer).lora.down.weight", "transformer.\(layer).lora.up.weight"),
            ("transformer.\(layer).lora_linear_layer.down.weight", "transformer.\(layer).lora_linear_layer.up.weight"),
            ("transformer.\(layer).lora_down.weight", "transformer.\(layer).lora_up.weight"),
            ("transformer.\(layer)_lora.down.weight", "transformer.\(layer)_lora.up.weight"),
            (
                "transformer.transformer_blocks.1.attn1.processor.to_q_lora.down.weight",
                "transformer.transformer_blocks.1.attn1.processor.to_q_lora.up.weight"
            ),
            ("diffusion_model.\(layer).lora_A.weight", "diffusion_model.\(layer).lora_B.weight"),
            ("base_model.model.\(layer).lora_A.default.weight", "base_model.model.\(layer).lora_B.default.weight"),
            (
                "lora_unet_transformer_blocks_1_attn1_to_q.lora_down.weight",
                "lora_unet_transformer_blocks_1_attn1_to_q.lora_up.weight"
            ),
        ])
    func spellings(down: String, up: String) throws {
        let adapter = try open(pair(down, up))
        #expect(adapter.layers == [Self.layer])
        #expect(adapter.delta(for: Self.layer)?.rank == 2)
    }

    @Test("biases are kept, and DoRA's magnitudes left out with a warning")
    func extras() throws {
        var tensors = diffusers()
        tensors["transformer.\(Self.layer).lora_B.bias"] = Tensor([1, 2, 3, 4], shape: [4])
        tensors["transformer.\(Self.layer).lora_magnitude_vector.weight"] = Tensor([1, 1, 1, 1], shape: [4])
        let adapter = try open(tensors)
        #expect(adapter.delta(for: Self.layer)?.bias?.shape == [4])
        #expect(adapter.warnings.contains { $0.contains("DoRA") })
    }

    @Test("keys without a place are refused by name")
    func unknownKeys() throws {
        for key in [
            "transformer.transformer_blocks.0.attn2.to_q.lora_A.weight", "text_encoder.encoder.block.0.q.lora_A.weight",
            "lora_te_encoder_block_0.lora_down.weight", "transformer.proj_out.weight", "nonsense",
            "transformer.transformer_blocks.x.attn1.to_q.lora_A.weight",
        ] {
            var tensors = diffusers()
            tensors[key] = Self.down
            let failure = try #require(throws: Failure.self) { try open(tensors) }
            #expect(failure.code == "adapter_key_unknown" && failure.message.contains(key), "\(key)")
        }
    }

    @Test("what diffusers would silently ignore, and other kinds of adapters, are errors")
    func refusals() throws {
        #expect(
            try code(pair("\(Self.layer).lora_A.weight", "\(Self.layer).lora_B.weight")) == "adapter_prefix_missing")
        #expect(try code(["lycoris_proj_out.lokr_w1": Self.down]) == "adapter_unsupported")
        #expect(try code(["transformer.\(Self.layer).lora_A.weight": Self.down]) == "adapter_invalid")
        var uneven = diffusers()
        uneven["transformer.\(Self.layer).lora_B.weight"] = Tensor([1, 2, 3], shape: [1, 3])
        #expect(try code(uneven) == "adapter_invalid")
        var flat = diffusers()
        flat["transformer.\(Self.layer).lora_A.weight"] = Tensor([1, 2], shape: [2])
        #expect(try code(flat) == "adapter_invalid")
        var mixed = diffusers()
        mixed["lora_unet__proj_out.lora_down.weight"] = Self.down
        mixed["lora_unet__proj_out.lora_up.weight"] = Self.up
        #expect(try code(mixed) == "adapter_invalid")
        var doubled = diffusers()
        doubled["transformer.\(Self.layer).lora.down.weight"] = Self.down
        #expect(try code(doubled) == "adapter_key_unknown")
        #expect(
            try #require(throws: Failure.self) { try AdapterWeights(path: "/nowhere/a") }.code == "adapter_not_found")
    }

    @Test(
        "metadata that cannot be meant is refused",
        arguments: [
            "[]", "{\"transformer.r\": 3}", "{\"transformer.r\": \"x\"}", "{\"transformer.rank_pattern\": 2}",
            "{\"transformer.r\": 0}",
        ])
    func wrongMetadata(json: String) throws {
        #expect(try code(diffusers(), metadata: ["lora_adapter_metadata": json]) == "adapter_metadata_invalid")
    }

    @Test("an adapter of another model is refused with its layers named, one that fits is not")
    func shapes() throws {
        let weights = try ModelFolder(path: Golden.path("2b")).weights(.transformer)
        var shapes: [String: [Int]] = [:]
        for name in weights.names { shapes[name] = try weights.tensor(name).shape }
        try AdapterWeights(path: Fixture.path("adapter-metadata.safetensors")).check(shapes: shapes)
        let failure = try #require(throws: Failure.self) { try open(diffusers()).check(shapes: shapes) }
        #expect(failure.code == "adapter_shape_mismatch" && failure.message.contains(Self.layer))
    }
}
