import Foundation
import Tensor

/// What `Fixtures/make_fixtures.py` wrote.
enum MediaFixtures {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

    static func bytes(_ image: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appending(path: "images/\(image)")))
    }

    static func tensors(_ name: String) throws -> SafetensorsFile {
        try SafetensorsFile(path: folder.appending(path: "\(name).safetensors").path())
    }

    static func imageNames() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.appending(path: "images").path()).sorted()
    }
}

/// The largest difference of two 8-bit tensors, 256 when their shapes differ.
func largestDifference(_ first: Tensor, _ second: Tensor) -> Int {
    guard first.shape == second.shape else { return 256 }
    return zip(first.bytes, second.bytes).reduce(0) { max($0, abs(Int($1.0) - Int($1.1))) }
}
