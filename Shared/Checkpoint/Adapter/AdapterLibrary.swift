package import Failure
import FoundationEssentials
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A folder of adapters that requests name files of. Nothing outside it is ever opened, whatever a name or a symbolic
/// link says.
///
/// Files may come and go while it is used; replace one by renaming another to its name, because those in use are mapped.
package final class AdapterLibrary: Sendable {
    /// An adapter that has been read and found fit for a model.
    package struct Entry: Sendable {
        package let name: String
        /// Hexadecimal SHA-256 of the contents.
        package let digest: String
        package let format: AdapterFormat
        /// As in `AdapterWeights`.
        package let rank: Int
        package let scales: [Double]
        package let layerCount: Int
        package let byteCount: Int
        package let warnings: [String]
    }

    /// UTF-8 bytes of a name.
    package static let nameBytes = 200
    /// Entries that `entries` lists.
    private static let listLimit = 1000

    /// The real path of the folder.
    package let path: String
    /// Shapes of the transformer's weights by key, which adapters are checked against.
    private let shapes: [String: [Int]]
    /// What was found fit, by path, as long as its files stay as they are.
    private let known = Mutex<[String: (identities: [FileIdentity?], entry: Entry)]>([:])

    /// The folder at `path`. Failure: `adapters_folder_missing`.
    package init(path: String, shapes: [String: [Int]]) throws(Failure) {
        guard let real = Self.realPath(path), ModelFileSystem.isFolder(real) else {
            throw Failure(
                "adapters_folder_missing", "There is no folder \(path).", field: "adapters",
                remedy: "Name the folder that holds the adapters.")
        }
        self.path = real
        self.shapes = shapes
    }

    /// Why a name is none: what it may not hold so that it stays inside a folder. Nil for a good one.
    package static func problem(ofName name: String) -> String? {
        guard !name.isEmpty else { return "is empty" }
        guard name.utf8.count <= nameBytes else { return "has more than \(nameBytes) bytes" }
        guard !name.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
            return "holds control characters"
        }
        guard !name.hasPrefix("/") else { return "is a path from the root" }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard !parts.contains(where: { $0.isEmpty || $0.hasPrefix(".") }) else {
            return "has an empty part, or one that begins with a dot"
        }
        return nil
    }

    /// The adapter of that name, read, of the model's shapes and finite: `FOLDER/name`, else `FOLDER/name.safetensors`.
    ///
    /// Failures: `adapter_name_invalid`, `adapter_not_found`, `adapter_outside_folder`, `adapter_not_finite` and those of
    /// `AdapterWeights`.
    package func adapter(_ name: String) throws(Failure) -> (weights: AdapterWeights, entry: Entry) {
        let weights = try AdapterWeights(path: try file(name), label: name)
        try weights.check(shapes: shapes)
        let place = weights.files[0], identities = weights.files.map { FileIdentity(path: $0) }
        if let found = known.withLock({ $0[place] }), found.identities == identities, found.entry.name == name {
            return (weights, found.entry)
        }
        try weights.checkFinite()
        let entry = Entry(
            name: name, digest: try weights.digest(), format: weights.format, rank: weights.rank,
            scales: weights.scales, layerCount: weights.layers.count, byteCount: weights.byteCount,
            warnings: weights.warnings)
        // What changed while it was read is read again the next time.
        if weights.files.map({ FileIdentity(path: $0) }) == identities {
            known.withLock { $0[place] = (identities, entry) }
        }
        return (weights, entry)
    }

    /// As `adapter`, and of the contents that were meant; `adapter_changed` otherwise, which another worker may have.
    package func weights(_ name: String, digest: String) throws(Failure) -> AdapterWeights {
        let found: (weights: AdapterWeights, entry: Entry)
        do throws(Failure) {
            found = try adapter(name)
        } catch {
            var failure = error
            if failure.code == "adapter_not_found" { failure.retry = .otherWorker }
            throw failure
        }
        guard found.entry.digest == digest else {
            throw Failure(
                "adapter_changed",
                "\(name) has the SHA-256 \(found.entry.digest.prefix(12))… here, and the job was made for "
                    + "\(digest.prefix(12))….", field: "loras",
                remedy:
                    "Put the same file into the folder of every denoiser and of the gateway, or submit the job again.",
                retry: .otherWorker)
        }
        return found.weights
    }

    /// Every adapter that can be used, by name, and what is wrong with the other files.
    package func entries() -> (usable: [Entry], failures: [(name: String, failure: Failure)]) {
        var usable: [Entry] = []
        var failures: [(name: String, failure: Failure)] = []
        for name in names() {
            do throws(Failure) {
                usable.append(try adapter(name).entry)
            } catch {
                failures.append((name, error))
            }
        }
        return (usable, failures)
    }

    /// What looks like an adapter: weight files of the folder and of folders in it, and folders that peft wrote.
    private func names() -> [String] {
        var names: [String] = []
        for name in (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] {
            guard names.count < Self.listLimit, Self.problem(ofName: name) == nil else { continue }
            let place = "\(path)/\(name)"
            if ModelFileSystem.isFolder(place) {
                let files = ModelFileSystem.files(in: place)
                let usual = files.contains { AdapterFile.usualNames.contains($0) }
                names += usual ? [name] : files.filter(Self.isWeights).map { "\(name)/\($0)" }
            } else if Self.isWeights(name) {
                names.append(name)
            }
        }
        return names
    }

    private static func isWeights(_ name: String) -> Bool { name.hasSuffix(".safetensors") || name.hasSuffix(".pt") }

    // MARK: Places

    private func file(_ name: String) throws(Failure) -> String {
        if let problem = Self.problem(ofName: name) {
            throw Failure(
                "adapter_name_invalid", "An adapter's name \(problem).", field: "loras",
                remedy: "Name a file by its path inside the server's folder of adapters.")
        }
        for candidate in ["\(path)/\(name)", "\(path)/\(name).safetensors"] {
            guard let real = Self.realPath(candidate) else { continue }
            guard isInside(real) else { throw outside(name) }
            guard ModelFileSystem.isFolder(real) || FileIdentity(path: real) != nil else { continue }
            let file = try AdapterFile.file(real)
            for part in [file, AdapterFile.configPath(of: file)].compactMap({ $0.flatMap(Self.realPath) }) {
                guard isInside(part) else { throw outside(name) }
            }
            return file
        }
        throw Failure(
            "adapter_not_found", "There is no adapter \(name) in the folder of adapters.", field: "loras",
            remedy: "GET /v1/loras lists those that there are.")
    }

    private func isInside(_ real: String) -> Bool { real.hasPrefix(path == "/" ? "/" : path + "/") }

    private func outside(_ name: String) -> Failure {
        Failure(
            "adapter_outside_folder", "\(name) is a link that leaves the folder of adapters.", field: "loras",
            remedy: "Put the file itself into the folder.")
    }

    private static func realPath(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(cString: real)
    }
}
