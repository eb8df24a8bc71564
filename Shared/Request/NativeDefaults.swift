import Failure
import FoundationEssentials

/// What a model folder itself asks for, in an optional `zoetrope.json` beside `model_index.json`. Absent fields leave
/// the defaults of diffusers' `CogVideoXPipeline`.
struct NativeDefaults: Sendable, Hashable, Codable {
    var numInferenceSteps: Int?
    var guidanceScale: Double?
    var framesPerSecond: Int?
    /// Of TeaCache's polynomial, highest power first.
    var teaCacheCoefficients: [Double]?
    /// Red, green and blue of each latent channel, and of none.
    var latentRGBFactors: [[Double]]?
    var latentRGBBias: [Double]?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case numInferenceSteps = "num_inference_steps"
        case guidanceScale = "guidance_scale"
        case framesPerSecond = "fps"
        case teaCacheCoefficients = "teacache_coefficients"
        case latentRGBFactors = "latent_rgb_factors"
        case latentRGBBias = "latent_rgb_bias"
    }

    static let fileName = "zoetrope.json"

    init() {}

    /// Reads the file in `folder`, if there is one; `model_config_invalid` when it is not what it must be.
    init(folder: String) throws(Failure) {
        self.init()
        let path = folder + "/" + Self.fileName
        guard FileManager.default.fileExists(atPath: path) else { return }
        let known = CodingKeys.allCases.map(\.rawValue)
        do {
            let bytes = try Data(contentsOf: URL(filePath: path))
            let fields = try JSONDecoder().decode([String: Entry].self, from: bytes)
            if let stranger = fields.keys.sorted().first(where: { !known.contains($0) }) {
                throw Self.invalid(path, "\(stranger) is not one of \(known.joined(separator: ", "))")
            }
            self = try JSONDecoder().decode(Self.self, from: bytes)
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Self.invalid(
                path,
                "it must be one JSON object of numbers, of lists of them for teacache_coefficients and latent_rgb_bias, "
                    + "and of a list of lists for latent_rgb_factors")
        }
        try check(path)
    }

    /// Any number, list or list of lists: which of them a name takes is known to the coding keys.
    private struct Entry: Decodable {
        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if (try? container.decode(Double.self)) != nil || (try? container.decode([Double].self)) != nil { return }
            _ = try container.decode([[Double]].self)
        }
    }

    private func check(_ path: String) throws(Failure) {
        if let numInferenceSteps, !(1...1000).contains(numInferenceSteps) {
            throw Self.invalid(path, "num_inference_steps is \(numInferenceSteps), not from 1 to 1000")
        }
        if let guidanceScale, !RequestLimits.guidanceScale.contains(guidanceScale) {
            throw Self.invalid(path, "guidance_scale is \(guidanceScale), not from 0 to 100")
        }
        if let framesPerSecond, !RequestLimits.framesPerSecond.contains(framesPerSecond) {
            throw Self.invalid(path, "fps is \(framesPerSecond), not from 1 to 120")
        }
        if let teaCacheCoefficients, !(1...10).contains(teaCacheCoefficients.count) {
            throw Self.invalid(path, "teacache_coefficients has \(teaCacheCoefficients.count) numbers, not 1 to 10")
        }
        if let latentRGBFactors, latentRGBFactors.isEmpty || latentRGBFactors.contains(where: { $0.count != 3 }) {
            throw Self.invalid(path, "latent_rgb_factors must have three numbers for each latent channel")
        }
        if let latentRGBBias, latentRGBBias.count != 3 {
            throw Self.invalid(path, "latent_rgb_bias has \(latentRGBBias.count) numbers, not 3")
        }
    }

    private static func invalid(_ path: String, _ reason: String) -> Failure {
        Failure(
            "model_config_invalid", "\(path): \(reason).", field: fileName, remedy: "Correct the file or remove it.")
    }
}
