import Checkpoint
import Failure
import Foundation
import Tensor
import TestSupport
import Testing

/// Files that the Python scripts beside these tests wrote.
enum Fixture {
    static func path(_ name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().path + "/Fixtures/\(name)"
    }
}

/// A folder that a test may fill; removed when the last reference goes.
final class ScratchFolder {
    let path = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var entries: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
}

@Suite("The conversion of SAT checkpoints")
struct SATConversionTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let golden: String
        let variant: SATVariant
        let dtype: DType
        var testDescription: String { golden }
    }

    static let cases = [
        Case(golden: "2b", variant: .small, dtype: .float32), Case(golden: "5b", variant: .large, dtype: .bfloat16),
        Case(golden: "5b-i2v", variant: .largeImage, dtype: .float32),
        Case(golden: "1.5", variant: .next, dtype: .float32),
        Case(golden: "1.5-i2v", variant: .nextImage, dtype: .float32),
    ]

    private func options(base: String? = nil) -> SATConversion.Options {
        var options = SATConversion.Options()
        options.base = base
        return options
    }

    /// The sizes of the golden models that no weight tells.
    private static let tinySizes = [
        "transformer.sample_width": "8", "transformer.sample_height": "6", "transformer.sample_frames": "9",
        "transformer.max_text_seq_length": "16", "vae.norm_num_groups": "4", "vae.sample_height": "48",
        "vae.sample_width": "64",
    ]

    private func failure(_ source: String, _ options: SATConversion.Options = .init()) throws -> Failure {
        let scratch = try ScratchFolder()
        let failure = try #require(throws: Failure.self) {
            try SATConversion(source: source, destination: "\(scratch.path)/out", options: options).run()
        }
        #expect(scratch.entries == [], "a failed conversion leaves nothing")
        return failure
    }

    @Test("every tensor of a transformer is that of the diffusers checkpoint, bit for bit", arguments: cases)
    func transformer(_ item: Case) throws {
        let scratch = try ScratchFolder()
        let destination = "\(scratch.path)/out"
        var chosen = options(base: Golden.path(item.golden))
        chosen.tokenizer = Golden.path("2b/tokenizer")
        if !FileManager.default.fileExists(
            atPath: Golden.path("\(item.golden)/vae/diffusion_pytorch_model.safetensors"))
        {
            // Two golden checkpoints have no autoencoder weights.
            chosen.autoencoder = Fixture.path("2b-vae.pt")
        }
        try SATConversion(source: Fixture.path("\(item.golden).pt"), destination: destination, options: chosen).run()
        let converted = try ModelFolder(path: destination).weights(.transformer)
        let golden = try ModelFolder(path: Golden.path(item.golden)).weights(.transformer)
        #expect(converted.names == golden.names)
        for name in golden.names {
            let expected = try golden.tensor(name).converted(to: item.dtype)
            #expect(identical(try converted.tensor(name), expected), "\(name)")
        }
    }

    @Test("the variant and every size that weights tell are inferred", arguments: cases)
    func configuration(_ item: Case) throws {
        let scratch = try ScratchFolder()
        let destination = "\(scratch.path)/out"
        var chosen = SATConversion.Options()
        chosen.autoencoder = Fixture.path("2b-vae.pt")
        chosen.textEncoder = Golden.path(item.golden)
        chosen.tokenizer = Golden.path("2b/tokenizer")
        chosen.changes = Self.tinySizes
        if item.golden == "5b" { chosen.changes["transformer.max_text_seq_length"] = "24" }
        let conversion = try SATConversion(
            source: Fixture.path("\(item.golden).pt"), destination: destination, options: chosen)
        #expect(conversion.variant == item.variant)
        try conversion.run()
        let folder = try ModelFolder(path: destination), golden = try ModelFolder(path: Golden.path(item.golden))
        #expect(folder.transformer == golden.transformer)
        #expect(folder.scheduler == golden.scheduler)
        #expect(folder.pipelineClass.contains("ImageToVideo") == item.variant.rawValue.hasSuffix("i2v"))
        if item.golden == "2b" { #expect(folder.vae == golden.vae) }
    }

    @Test("every tensor of an autoencoder is that of the diffusers checkpoint")
    func autoencoder() throws {
        let scratch = try ScratchFolder()
        let destination = "\(scratch.path)/out"
        try SATConversion(
            source: Fixture.path("2b-vae.pt"), destination: destination, options: options(base: Golden.path("2b"))
        ).run()
        let converted = try ModelFolder(path: destination).weights(.vae)
        let golden = try ModelFolder(path: Golden.path("2b")).weights(.vae)
        #expect(converted.names == golden.names)
        for name in golden.names {
            #expect(identical(try converted.tensor(name), try golden.tensor(name).converted(to: .float16)), "\(name)")
        }
    }

    @Test("the released folder layout is found, with the iteration that latest names")
    func layout() throws {
        let scratch = try ScratchFolder()
        let manager = FileManager.default
        for folder in ["in/transformer/1", "in/transformer/1000", "in/vae", "in/t5-v1_1-xxl"] {
            try manager.createDirectory(atPath: "\(scratch.path)/\(folder)", withIntermediateDirectories: true)
        }
        try Data("1\n".utf8).write(to: URL(filePath: "\(scratch.path)/in/transformer/latest"))
        for (source, target) in [
            (Fixture.path("2b.pt"), "transformer/1/mp_rank_00_model_states.pt"),
            (Fixture.path("5b.pt"), "transformer/1000/mp_rank_00_model_states.pt"),
            (Fixture.path("2b-vae.pt"), "vae/3d-vae.pt"),
            (Golden.path("2b/text_encoder/config.json"), "t5-v1_1-xxl/config.json"),
            (Golden.path("2b/text_encoder/model.safetensors"), "t5-v1_1-xxl/model.safetensors"),
            (Golden.path("2b/tokenizer/spiece.model"), "t5-v1_1-xxl/spiece.model"),
        ] {
            try manager.copyItem(atPath: source, toPath: "\(scratch.path)/in/\(target)")
        }
        var chosen = SATConversion.Options()
        chosen.changes = Self.tinySizes
        let conversion = try SATConversion(
            source: "\(scratch.path)/in", destination: "\(scratch.path)/out", options: chosen)
        #expect(conversion.variant == .small)
        try conversion.run()
        #expect(try ModelFolder(path: "\(scratch.path)/out").digest().count == 64)
        try manager.copyItem(
            atPath: Fixture.path("2b.pt"), toPath: "\(scratch.path)/in/transformer/1/mp_rank_01_model_states.pt")
        #expect(try failure("\(scratch.path)/in", chosen).code == "sat_model_parallel")
    }

    @Test("large networks are cut into shards that give the same tensors, in another type if asked")
    func shards() throws {
        let scratch = try ScratchFolder()
        let destination = "\(scratch.path)/out"
        var chosen = options(base: Golden.path("2b"))
        chosen.shardByteCount = 40_000
        chosen.dtype = .bfloat16
        var seen: [ByteProgress] = []
        try SATConversion(source: Fixture.path("2b.pt"), destination: destination, options: chosen)
            .run(progress: { seen.append($0) })
        let files = try FileManager.default.contentsOfDirectory(atPath: "\(destination)/transformer").sorted()
        #expect(files.filter { $0.hasSuffix(".safetensors") }.count > 2)
        #expect(files.contains("diffusion_pytorch_model.safetensors.index.json"))
        let converted = try ModelFolder(path: destination).weights(.transformer)
        let golden = try ModelFolder(path: Golden.path("2b")).weights(.transformer)
        #expect(converted.names == golden.names)
        for name in golden.names {
            #expect(identical(try converted.tensor(name), try golden.tensor(name).converted(to: .bfloat16)), "\(name)")
        }
        #expect(seen.last?.doneBytes == seen.last?.totalBytes && seen.count > files.count)
    }

    @Test("nothing is overwritten, and an incomplete model names what is missing")
    func refusals() throws {
        let scratch = try ScratchFolder()
        let existing = try #require(throws: Failure.self) {
            try SATConversion(source: Fixture.path("2b.pt"), destination: scratch.path)
        }
        #expect(existing.code == "destination_exists")
        let incomplete = try failure(Fixture.path("2b.pt"))
        #expect(incomplete.code == "conversion_incomplete")
        #expect(incomplete.message.contains("vae") && incomplete.message.contains("text_encoder"))
        #expect(try failure("/nowhere/at-all").code == "sat_source_not_found")
        #expect(try failure(scratch.path).code == "sat_source_not_found")
        var chosen = options()
        chosen.changes = ["transformer.colour": "1"]
        #expect(try failure(Fixture.path("2b.pt"), chosen).code == "conversion_field_unknown")
    }

    @Test("a variant that the weights contradict is refused", arguments: [SATVariant.largeImage, .next, .nextImage])
    func wrongVariant(variant: SATVariant) throws {
        var chosen = options(base: Golden.path("2b"))
        chosen.variant = variant
        #expect(try failure(Fixture.path("2b.pt"), chosen).code == "sat_variant_mismatch")
    }

    @Test("weights that do not fit the base's configuration never become a folder")
    func check() throws {
        let scratch = try ScratchFolder()
        let conversion = try SATConversion(
            source: Fixture.path("2b.pt"), destination: "\(scratch.path)/out", options: options(base: Golden.path("2b"))
        )
        let refusal = try #require(throws: Failure.self) {
            try conversion.run { (folder) throws(Failure) in
                throw Failure("checkpoint_keys_mismatch", "\(folder.path) is wrong")
            }
        }
        #expect(refusal.message == "\(scratch.path)/out is wrong")
        #expect(scratch.entries == [])
    }

    @Test("adapters and strange keys are refused by name")
    func strangeKeys() throws {
        let adapted = try failure(Fixture.path("adapter-sat.pt"), options(base: Golden.path("2b")))
        #expect(adapted.code == "sat_key_unknown" && adapted.message.contains("matrix_A"))
        #expect(adapted.remedy?.contains("LoRA") == true)
    }
}
