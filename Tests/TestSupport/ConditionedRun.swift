import Foundation

/// A whole run of the reference that begins with a picture or a clip (`Tests/Golden/make_fixtures.py conditioned`).
package struct ConditionedRun: Decodable, Sendable {
    package let prompt: String
    package let negativePrompt: String
    package let width: Int
    package let height: Int
    package let numFrames: Int
    package let numInferenceSteps: Int
    package let guidanceScale: Double
    package let useDynamicCFG: Bool
    package let scheduler: String
    package let strength: Double?
    package let seed: UInt64
    /// `image`, `video` or `control`.
    package let kind: String
    /// The fixtures that the transformer and everything else come from.
    private let transformer: String
    private let base: String

    private enum CodingKeys: String, CodingKey {
        case prompt, width, height, scheduler, strength, seed, kind, transformer, base
        case negativePrompt = "negative_prompt"
        case numFrames = "num_frames"
        case numInferenceSteps = "num_inference_steps"
        case guidanceScale = "guidance_scale"
        case useDynamicCFG = "use_dynamic_cfg"
    }

    private static let golden = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Golden").path

    /// Inputs and results of every run, by its name.
    package static let expectedPath = golden + "/conditioned/expected.safetensors"

    /// The run of this name; nil where the fixture has none.
    package static func named(_ name: String) throws -> ConditionedRun? {
        let data = try Data(contentsOf: URL(filePath: golden + "/conditioned/requests.json"))
        return try JSONDecoder().decode([String: ConditionedRun].self, from: data)[name]
    }

    /// Makes the run's model folder at `path`: the transformer of one fixture with everything else of another.
    package func makeModel(at path: String) throws {
        let files = FileManager.default
        try files.copyItem(atPath: "\(Self.golden)/\(base)", toPath: path)
        try files.removeItem(atPath: path + "/transformer")
        try files.copyItem(atPath: "\(Self.golden)/\(transformer)/transformer", toPath: path + "/transformer")
        let pipelines = [
            "image": "CogVideoXImageToVideoPipeline", "video": "CogVideoXVideoToVideoPipeline",
            "control": "CogVideoXFunControlPipeline",
        ]
        try Data("{\"_class_name\": \"\(pipelines[kind] ?? "")\"}".utf8)
            .write(to: URL(filePath: path + "/model_index.json"))
    }
}
