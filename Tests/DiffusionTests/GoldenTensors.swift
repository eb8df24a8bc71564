import Foundation
import Tensor
import Testing

/// A safetensors file read on its own terms, so that these tests lean on nothing but the sampler.
struct GoldenTensors {
    private struct Entry: Decodable {
        var dtype: String
        var shape: [Int]
        var data_offsets: [Int]
    }
    private let entries: [String: Entry]
    private let payload: Data

    init(_ name: String) throws {
        let data = try Data(contentsOf: Golden.folder.appending(path: name))
        let headerLength = Int(data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self).littleEndian })
        entries = try JSONDecoder().decode([String: Entry].self, from: data[8..<(8 + headerLength)])
        payload = Data(data[(8 + headerLength)...])
    }

    func tensor(_ name: String) throws -> Tensor {
        let entry = try #require(entries[name])
        let dtype = try #require(DType(safetensorsName: entry.dtype))
        let bytes = [UInt8](payload[entry.data_offsets[0]..<entry.data_offsets[1]])
        return Tensor(storage: Tensor(bytes: bytes).storage, shape: entry.shape, dtype: dtype)
    }
}
