import Checkpoint
import DemoModel
import FoundationEssentials
import Request

/// Traits of the released models, read from folders that hold their published configurations and no weights.
enum ModelFixtures {
    static func demo() throws -> ModelTraits {
        try ModelTraits(folder: ModelFolder(path: DemoModel.path()), digest: String(repeating: "d", count: 64))
    }

    static func cogVideoX2b() throws -> ModelTraits { try traits(transformer: [:]) }

    static func cogVideoX5b() throws -> ModelTraits {
        try traits(
            transformer: ["use_rotary_positional_embeddings": "true", "num_attention_heads": "48", "num_layers": "42"],
            scheduler: "CogVideoXDPMScheduler")
    }

    /// The 300×300 that the conversion script writes, or the 96×170 of a later upload.
    static func cogVideoX15(sampleHeight: Int = 300, sampleWidth: Int = 300) throws -> ModelTraits {
        try traits(
            transformer: [
                "use_rotary_positional_embeddings": "true", "num_attention_heads": "48", "num_layers": "42",
                "patch_size_t": "2", "sample_frames": "81", "sample_height": "\(sampleHeight)",
                "sample_width": "\(sampleWidth)",
            ], scheduler: "CogVideoXDPMScheduler")
    }

    static func learnedPositions() throws -> ModelTraits {
        try traits(
            transformer: ["use_rotary_positional_embeddings": "true", "use_learned_positional_embeddings": "true"])
    }

    static func traits(
        pipeline: String = "CogVideoXPipeline", transformer: [String: String],
        scheduler: String = "CogVideoXDDIMScheduler", zoetrope: String? = nil
    ) throws -> ModelTraits {
        let root = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString)/CogVideoX")
        defer { try? FileManager.default.removeItem(at: root.deletingLastPathComponent()) }
        func write(_ name: String, _ text: String) throws {
            let file = root.appending(path: name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        try write("model_index.json", "{\"_class_name\": \"\(pipeline)\"}")
        let fields = transformer.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
        try write("transformer/config.json", "{\(fields)}")
        try write("vae/config.json", "{}")
        try write("text_encoder/config.json", "{\"d_model\": 4096}")
        try write(
            "scheduler/scheduler_config.json",
            "{\"_class_name\": \"\(scheduler)\", \"timestep_spacing\": \"trailing\", \"prediction_type\": \"v_prediction\"}"
        )
        if let zoetrope { try write("zoetrope.json", zoetrope) }
        return try ModelTraits(
            folder: ModelFolder(path: root.path()), digest: String(repeating: "a", count: 64))
    }
}
