import Checkpoint
import Failure
import Foundation
import Model
import Tensor

/// A model folder of released widths, a few layers deep and with random weights, made once and kept for later runs.
///
/// The peer loads the same files.
struct BenchModel {
    /// Folder names double as the words of a case.
    enum Kind: String {
        /// Two layers of CogVideoX-2b, its autoencoder, and two layers of T5-XXL.
        case small = "2b"
        /// Two layers of CogVideoX-5b.
        case large = "5b"
    }

    static let layers = 2
    let folder: ModelFolder

    init(_ kind: Kind) throws {
        let base = ProcessInfo.processInfo.environment["ZOETROPE_BENCH_MODELS"]
        let root = base ?? FileManager.default.temporaryDirectory.appending(path: "zoetrope-bench-models").path
        let path = "\(root)/\(kind.rawValue)-\(Self.layers)"
        if !FileManager.default.fileExists(atPath: "\(path)/complete") { try Self.write(kind, path) }
        folder = try ModelFolder(path: path)
    }

    private static func write(_ kind: Kind, _ path: String) throws {
        let heads = kind == .small ? 30 : 48
        let rotary = kind == .large
        let files = [
            "model_index.json": #"{"_class_name": "CogVideoXPipeline"}"#,
            "transformer/config.json": """
            {"_class_name": "CogVideoXTransformer3DModel", "num_attention_heads": \(heads), "num_layers": \(layers),
             "use_rotary_positional_embeddings": \(rotary)}
            """,
            "vae/config.json": """
            {"_class_name": "AutoencoderKLCogVideoX", "block_out_channels": [128, 256, 256, 512],
             "layers_per_block": 3, "latent_channels": 16,
             "down_block_types": ["CogVideoXDownBlock3D", "CogVideoXDownBlock3D", "CogVideoXDownBlock3D",
                                  "CogVideoXDownBlock3D"],
             "up_block_types": ["CogVideoXUpBlock3D", "CogVideoXUpBlock3D", "CogVideoXUpBlock3D",
                                "CogVideoXUpBlock3D"]}
            """,
            "scheduler/scheduler_config.json": "{}",
            "text_encoder/config.json": """
            {"architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": 4096, "d_kv": 64, "num_heads": 64,
             "d_ff": 10240, "num_layers": \(layers), "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}
            """,
        ]
        for (name, text) in files {
            let file = URL(filePath: "\(path)/\(name)")
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        let folder = try ModelFolder(path: path)
        FileHandle.standardError.write(Data("bench: making random weights in \(path)\n".utf8))
        try weights(
            Transformer3D.expectedWeights(folder.transformer),
            to: "\(path)/transformer/diffusion_pytorch_model.safetensors")
        if kind == .small {
            try weights(
                AutoencoderKLDecoder.expectedWeights(folder.vae), to: "\(path)/vae/diffusion_pytorch_model.safetensors")
            var text = T5Encoder.expectedWeights(folder.textEncoder)
            text["encoder.embed_tokens.weight"] = nil
            try weights(text, to: "\(path)/text_encoder/model.safetensors")
        }
        try Data().write(to: URL(filePath: "\(path)/complete"))
    }

    /// bfloat16 weights of about unit gain, so that activations stay of ordinary size.
    private static func weights(_ shapes: [String: [Int]], to path: String) throws {
        var random = SplitMix(state: 1)
        var tensors: [(String, Tensor)] = []
        for name in shapes.keys.sorted() {
            let shape = shapes[name] ?? [], inputs = shape.dropFirst().reduce(1, *)
            let isNorm = shape.count == 1 && name.hasSuffix("weight")
            let scale = shape.count == 1 ? 0.02 : 1.7 / Float(inputs).squareRoot()
            let values = (0..<shape.reduce(1, *)).map { _ in (isNorm ? 1 : 0) + scale * random.next() }
            tensors.append((name, Tensor(values, shape: shape).converted(to: .bfloat16)))
        }
        try SafetensorsWriter.write(tensors: tensors, to: path)
    }
}
