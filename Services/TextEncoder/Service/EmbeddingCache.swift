package import Failure
import FoundationEssentials
package import Tensor
import Wire

/// Text features in a folder that any number of text encoders share.
///
/// A file an entry, named by the SHA-256 of all that decides its bits: model, arithmetic, dtype and token ids. What an
/// entry holds is compared with its own digest when it is read; one that is damaged is removed and made again. When the
/// folder grows beyond its limit, entries that were not used for longest go. A folder that cannot be written costs
/// time, not jobs.
package struct EmbeddingCache: Sendable {
    private let folder: URL
    private let limitBytes: Int

    private static let suffix = ".safetensors"
    private static let name = "features", digestKey = "sha256"

    /// Makes the folder. Fails with `embedding_cache_unusable`.
    package init(folder: String, limitBytes: Int) throws(Failure) {
        self.folder = URL(filePath: folder)
        self.limitBytes = limitBytes
        do {
            try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
        } catch {
            throw Failure(
                "embedding_cache_unusable", "\(folder) is no folder and cannot be made one: \(error)",
                field: "embedding-cache", remedy: "Name a folder that this user may write, or leave the flag out.")
        }
    }

    /// What decides the bits of features.
    package struct Key: Sendable, Hashable {
        package var model: String
        package var numerics: String
        package var dtype: DType
        package var tokens: [Int32]

        package init(model: String, numerics: String, dtype: DType, tokens: [Int32]) {
            self.model = model
            self.numerics = numerics
            self.dtype = dtype
            self.tokens = tokens
        }

        fileprivate var fileName: String {
            let ids = tokens.map(String.init).joined(separator: " ")
            return Digest.of(Array("\(model)\n\(numerics)\n\(dtype)\n\(ids)".utf8)).description + suffix
        }
    }

    /// The features stored under `key`; nil where there are none, or none that can be trusted.
    package func features(_ key: Key) -> Tensor? {
        let file = folder.appending(path: key.fileName)
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        guard let stored = try? SafetensorsFile(path: file.path), let features = try? stored.tensor(Self.name),
            features.dtype == key.dtype, stored.metadata[Self.digestKey] == Self.digest(features)
        else {
            try? FileManager.default.removeItem(at: file)
            return nil
        }
        try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: file.path)
        return features
    }

    /// Keeps `features` under `key`, and the folder within its limit.
    package func store(_ features: Tensor, _ key: Key) {
        let encoded = SafetensorsWriter.encode(
            [(Self.name, features)], metadata: [Self.digestKey: Self.digest(features)])
        guard encoded.byteCount <= limitBytes else { return }
        let bytes = encoded.withUnsafeBytes { Data($0) }
        guard (try? bytes.write(to: folder.appending(path: key.fileName), options: .atomic)) != nil else { return }
        trim()
    }

    private func trim() {
        let files = FileManager.default
        let names = (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
        var entries: [(path: String, bytes: Int, used: Date)] = []
        for name in names where name.hasSuffix(Self.suffix) {
            let path = folder.appending(path: name).path
            guard let attributes = try? files.attributesOfItem(atPath: path) else { continue }
            entries.append(
                (path, attributes[.size] as? Int ?? 0, attributes[.modificationDate] as? Date ?? .distantPast))
        }
        var total = entries.reduce(0) { $0 + $1.bytes }
        for entry in entries.sorted(by: { $0.used < $1.used }) {
            guard total > limitBytes else { return }
            try? files.removeItem(atPath: entry.path)
            total -= entry.bytes
        }
    }

    private static func digest(_ features: Tensor) -> String {
        features.withUnsafeBytes { Digest.of(Array($0)).description }
    }
}
