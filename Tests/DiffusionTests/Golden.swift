import Checkpoint
import Failure
import Foundation
import Tensor

/// What `Fixtures/make_fixtures.py` wrote.
struct Golden: Decodable {
    struct SamplerCase: Decodable, CustomStringConvertible {
        var name: String
        var kind: String
        var count: Int
        var shape: [Int]
        var dtype: String
        var config: JSON

        var description: String { "\(name) \(kind) n=\(count) \(dtype) \(shape)" }
    }
    struct Schedule: Decodable {
        var config: JSON
        var alphasCumprod: [Double]
    }
    struct Noising: Decodable {
        var timestep: Int
        var noisy: [Float]
        var velocity: [Float]
    }
    struct Guided: Decodable {
        var count: Int
        var scale: Double
        var values: [Double]
    }
    struct Normals: Decodable {
        var seed: UInt64
        var shape: [Int]
        var fnv1aOfWords: String
    }
    var samplers: [SamplerCase]
    var normals: Normals
    var timesteps: [String: [String]]
    var schedules: [Schedule]
    var forwardProcess: [Noising]
    var dynamicGuidance: [Guided]

    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

    static func load() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: Data(contentsOf: folder.appending(path: "golden.json")))
    }
}

/// Any JSON, kept so that it can be written out again.
enum JSON: Codable {
    case null, bool(Bool), number(Double), string(String), array([JSON]), object([String: JSON])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSON].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSON].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }

    /// The scheduler configuration that this object is, read the way a checkpoint's is.
    func schedulerConfig() throws -> SchedulerConfig {
        let folder = FileManager.default.temporaryDirectory.appending(path: "scheduler-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(
            at: folder.appending(path: "scheduler"), withIntermediateDirectories: true)
        try JSONEncoder().encode(self).write(to: folder.appending(path: "scheduler/scheduler_config.json"))
        return try SchedulerConfig(folder: folder.path())
    }
}

/// The configuration of the released checkpoints, with changes.
func releasedConfig(_ changes: [String: JSON] = [:]) throws -> SchedulerConfig {
    let released: [String: JSON] = [
        "_class_name": .string("CogVideoXDDIMScheduler"), "beta_start": .number(0.00085), "beta_end": .number(0.012),
        "beta_schedule": .string("scaled_linear"), "clip_sample": .bool(false), "snr_shift_scale": .number(1),
        "prediction_type": .string("v_prediction"), "rescale_betas_zero_snr": .bool(true),
        "timestep_spacing": .string("trailing"),
    ]
    return try JSON.object(released.merging(changes) { $1 }).schedulerConfig()
}

/// FNV-1a over 64-bit words.
func fnv1a(_ words: some Sequence<UInt64>) -> UInt64 {
    words.reduce(14_695_981_039_346_656_037) { ($0 ^ $1) &* 1_099_511_628_211 }
}

extension Tensor {
    /// The elements as float32, whatever the floating point dtype.
    var values: [Float] {
        withUnsafeBytes { bytes in
            switch dtype {
            case .bfloat16: bytes.bindMemory(to: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
            case .float16: bytes.bindMemory(to: Float16.self).map(Float.init)
            default: Array(bytes.bindMemory(to: Float.self))
            }
        }
    }
}
