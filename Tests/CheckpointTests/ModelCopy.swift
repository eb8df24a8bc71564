import Foundation
import Tensor

/// The golden checkpoints that the Python script wrote.
enum Golden {
    static let pipelines = ["2b", "5b", "1.5"]
    static let all = pipelines + ["5b-i2v", "1.5-i2v"]

    static func path(_ name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Golden/\(name)"
    }
}

/// A copy of a golden checkpoint that a test may spoil; removed when the last reference goes.
final class ModelCopy {
    let path: String

    init(of name: String = "2b") throws {
        path = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"
        try FileManager.default.copyItem(atPath: Golden.path(name), toPath: path)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func read(_ file: String) throws -> [String: Any] {
        let bytes = try Data(contentsOf: URL(filePath: "\(path)/\(file)"))
        return try JSONSerialization.jsonObject(with: bytes) as? [String: Any] ?? [:]
    }

    /// Changes fields of a JSON file; a nil value removes the field.
    func edit(_ file: String, _ changes: [String: Any?]) throws {
        var fields = try read(file)
        for (name, value) in changes { fields[name] = value }
        try write(file, JSONSerialization.data(withJSONObject: fields))
    }

    func write(_ file: String, _ bytes: Data) throws { try bytes.write(to: URL(filePath: "\(path)/\(file)")) }

    func write(_ file: String, _ text: String) throws { try write(file, Data(text.utf8)) }

    func remove(_ file: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(file)") }

    func move(_ file: String, to other: String) throws {
        try FileManager.default.moveItem(atPath: "\(path)/\(file)", toPath: "\(path)/\(other)")
    }

    /// Splits a weight file into `count` shards with an index, as `save_pretrained(max_shard_size=…)` does.
    func shard(_ folder: String, stem: String, count: Int) throws {
        let file = try SafetensorsFile(path: "\(path)/\(folder)/\(stem).safetensors")
        var shards: [[String: Tensor]] = Array(repeating: [:], count: count)
        var placement: [String: String] = [:]
        for (index, name) in file.names.enumerated() {
            shards[index % count][name] = try file.tensor(name).copied()
            placement[name] = Self.shardName(stem, index % count, of: count)
        }
        for (index, shard) in shards.enumerated() {
            let name = Self.shardName(stem, index, of: count)
            try SafetensorsWriter.write(tensors: shard, to: "\(path)/\(folder)/\(name)")
        }
        try remove("\(folder)/\(stem).safetensors")
        try write(
            "\(folder)/\(stem).safetensors.index.json",
            JSONSerialization.data(withJSONObject: ["metadata": ["total_size": 0], "weight_map": placement]))
    }

    static func shardName(_ stem: String, _ index: Int, of count: Int) -> String {
        func digits(_ number: Int) -> String { String("0000\(number)".suffix(5)) }
        return "\(stem)-\(digits(index + 1))-of-\(digits(count)).safetensors"
    }
}
