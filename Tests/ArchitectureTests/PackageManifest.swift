import Foundation
import Testing

/// The package as SwiftPM reads it: targets, where they lie and what they declare.
///
/// Read with `swift package dump-package`, which only evaluates Package.swift: unlike `describe` it resolves nothing and
/// needs no lock on the build folder, which the running `swift test` holds.
struct PackageManifest {
    struct Target {
        let name: String
        /// `regular`, `executable`, `test` or `system`.
        let kind: String
        /// Relative to the package's root.
        let path: String
        /// Names of targets of this package and of products of other packages.
        let dependencies: [String]
    }

    let targets: [Target]

    /// Where Package.swift lies.
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static func load() throws -> PackageManifest {
        let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("zoetrope-manifest-\(UUID())")
        defer { try? FileManager.default.removeItem(at: scratch) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["swift", "package", "--scratch-path", scratch.path, "dump-package"]
        process.currentDirectoryURL = root
        var environment = ProcessInfo.processInfo.environment
        environment["ZOETROPE_TARGETS"] = nil
        process.environment = environment
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "swift package dump-package failed")
        let dump = try JSONDecoder().decode(Dump.self, from: bytes)
        return PackageManifest(
            targets: dump.targets.map { target in
                Target(
                    name: target.name, kind: target.type, path: target.path ?? "",
                    dependencies: target.dependencies.map(\.name))
            })
    }

    func target(_ name: String) -> Target? { targets.first { $0.name == name } }
}

/// The part of SwiftPM's dump that the rules need.
private struct Dump: Decodable {
    struct Target: Decodable {
        let name: String
        let type: String
        let path: String?
        let dependencies: [Dependency]
    }

    /// `{"byName": ["Wire", null]}` or `{"product": ["Logging", "swift-log", null, null]}`: the first element names it.
    struct Dependency: Decodable {
        let name: String

        init(from decoder: any Decoder) throws {
            let kinds = try decoder.container(keyedBy: Key.self)
            guard let kind = kinds.allKeys.first else {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: decoder.codingPath, debugDescription: "a dependency without a kind"))
            }
            var fields = try kinds.nestedUnkeyedContainer(forKey: kind)
            name = try fields.decode(String.self)
        }
    }

    struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    let targets: [Target]
}
