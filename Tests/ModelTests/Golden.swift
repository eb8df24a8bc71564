import Checkpoint
import Compute
import Failure
import Foundation
import Tensor

/// One golden checkpoint and what the reference computed from it (`Tests/Golden/make_fixtures.py`).
struct Golden: Sendable {
    let folder: ModelFolder
    let expected: SafetensorsFile

    static let pipelines = ["2b", "5b", "1.5"]
    static let all = pipelines + ["5b-i2v", "1.5-i2v"]

    init(_ name: String, file: String = "expected") throws {
        folder = try ModelFolder(path: Self.path(name))
        expected = try SafetensorsFile(path: Self.path(name) + "/\(file).safetensors")
    }

    static func path(_ name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Golden/\(name)"
    }

    func callAsFunction(_ key: String) throws -> Tensor { try expected.tensor(key) }

    /// How many forward passes of other sizes the fixture holds.
    var forwardCount: Int { expected.names.count { $0.hasPrefix("forward.") && $0.hasSuffix(".latents") } }

    /// The two prompts of the forward passes.
    func forwardPrompts() throws -> [Tensor] {
        let prompts = try self("forward.prompts")
        return (0..<prompts.shape[0]).map { prompts.rows($0..<($0 + 1)).reshaped(Array(prompts.shape.dropFirst())) }
    }
}

/// Two threads, so that work is really divided.
func testBackend() -> CPUBackend { CPUBackend(threads: 2) }

/// Peak signal-to-noise ratio of values in [0, 1], in decibels.
func decibels(_ a: Tensor, _ b: Tensor) -> Double {
    let differences = zip(a.floats(), b.floats()).map { Double($0 - $1) }
    let error = differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count)
    return error == 0 ? .infinity : -10 * log10(error)
}

/// Root mean square of a − b over that of the reference b.
func relativeDifference(_ a: Tensor, _ b: Tensor) -> Double {
    let reference = b.floats()
    let error = zip(a.floats(), reference).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    return (error / reference.reduce(0.0) { $0 + Double($1 * $1) }).squareRoot()
}

/// A copy of a golden checkpoint with other weight files; removed when the last reference goes.
final class RewrittenModel {
    let path: String

    /// `change` sees every tensor of `file` and returns what stands in its place, or nil for nothing.
    init(of name: String, file: String, change: (String, Tensor) -> Tensor?) throws {
        path = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"
        try FileManager.default.copyItem(atPath: Golden.path(name), toPath: path)
        let source = try SafetensorsFile(path: "\(Golden.path(name))/\(file)")
        var tensors: [String: Tensor] = [:]
        for key in source.names { tensors[key] = change(key, try source.tensor(key)) }
        try SafetensorsWriter.write(tensors: tensors, to: "\(path)/\(file)")
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func folder() throws -> ModelFolder { try ModelFolder(path: path) }
}

enum WeightFile {
    static let transformer = "transformer/diffusion_pytorch_model.safetensors"
    static let autoencoder = "vae/diffusion_pytorch_model.safetensors"
    static let textEncoder = "text_encoder/model.safetensors"
}
