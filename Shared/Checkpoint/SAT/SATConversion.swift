package import Failure
import FoundationEssentials
package import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Turns a SAT checkpoint into a folder of the diffusers layout. No code of the checkpoint is executed.
package struct SATConversion {
    package struct Options: Sendable {
        /// Nil: as the weights tell.
        package var variant: SATVariant?
        /// Nil keeps every tensor's own type.
        package var dtype: DType?
        /// The autoencoder's .pt file, where it is not found beside the transformer.
        package var autoencoder: String?
        /// A folder with the T5 encoder, or a diffusers folder that has one.
        package var textEncoder: String?
        /// A folder with the vocabulary, where it is not with the encoder.
        package var tokenizer: String?
        /// A diffusers folder that gives every configuration, and each component that the source lacks.
        package var base: String?
        /// Configuration fields to write otherwise, such as `transformer.sample_width`, with their values as text.
        package var changes: [String: String] = [:]
        /// The largest weight file in bytes; diffusers' own limit is 5 GB.
        package var shardByteCount = 5_000_000_000
        /// Whether the checksums of the ZIP archives must be right.
        package var verifiesChecksums = true
        /// Copies files that are taken over, instead of giving them a second name.
        package var copiesFiles = false

        package init() {}
    }

    package let destination: String
    /// The model that the configurations are of; nil when they are those of the base.
    package let variant: SATVariant?
    /// What was found, one line each, for people.
    package private(set) var notes: [String] = []
    private let options: Options
    private let writers: [SATWeightWriter]
    private let documents: [(name: String, text: String)]
    /// Files taken over as they are: where they come from, and where they go below the folder.
    private let files: [(source: String, target: String)]

    /// Opens the source and plans everything; nothing is written yet.
    ///
    /// Failures: `destination_exists`, `conversion_incomplete`, `conversion_field_unknown`, `sat_variant_mismatch` and
    /// those of `SATSource`, `SATComponent` and `TorchFile`.
    package init(source: String, destination: String, options: Options = Options()) throws(Failure) {
        self.options = options
        var trimmed = destination
        while trimmed.count > 1 && trimmed.hasSuffix("/") { trimmed.removeLast() }
        self.destination = trimmed
        temporaryFolder = "\(trimmed).\(getpid()).\(UInt32.random(in: 0...(.max))).part"
        guard !ModelFileSystem.exists(trimmed) else {
            throw Failure(
                "destination_exists", "\(trimmed) is there already, and nothing is overwritten.", field: "destination",
                remedy: "Name a folder that does not exist.")
        }
        var found = try SATSource(path: source)
        found.autoencoder = options.autoencoder ?? found.autoencoder
        found.textEncoder = options.textEncoder ?? found.textEncoder
        var components: [SATComponent] = []
        var configurations: SATConfigurations?
        let autoencoder = try found.autoencoder.map { path throws(Failure) in try SATComponent(.vae, path: path) }
        if let path = found.transformer {
            var transformer = try SATComponent(.transformer, path: path)
            configurations = try SATConfigurations(
                transformer: &transformer, autoencoder: autoencoder, variant: options.variant)
            components.append(transformer)
        }
        if let autoencoder { components.append(autoencoder) }
        if options.base == nil {
            try configurations?.apply(options.changes, parse: Self.value)
        } else if let field = options.changes.keys.min() {
            throw Failure(
                "conversion_field_unknown", "\(field) cannot be set: every configuration is the base's.", field: field,
                remedy: "Leave out either --base or --set.")
        }
        variant = options.base == nil ? configurations?.variant : nil
        documents =
            options.base == nil ? configurations?.documents.map { ($0.name, $0.document.text) } ?? [] : []
        writers = try components.map { component throws(Failure) in
            try SATWeightWriter(
                component: component, dtype: options.dtype, shardByteCount: max(1, options.shardByteCount),
                verifiesChecksums: options.verifiesChecksums)
        }
        files = try TakenFiles.list(
            source: found, tokenizer: options.tokenizer, base: options.base,
            converted: Set(components.map(\.component)))
        notes = Self.notes(components, configurations)
    }

    /// Converts into a folder beside the destination and renames it when everything is there and `check` is content, so
    /// that the destination is whole or absent.
    ///
    /// Failures: `unwritable_file`, `disk_space_insufficient`, those of `SATWeightWriter`, of `ModelFolder` and of
    /// `check`, which gets the finished folder.
    package func run(
        check: (ModelFolder) throws(Failure) -> Void = { (_) throws(Failure) in },
        progress: @escaping (ByteProgress) -> Void = { _ in }
    ) throws(Failure) {
        try requireSpace()
        let temporary = temporaryFolder
        do throws(Failure) {
            try write(into: temporary, progress: progress)
            try check(try ModelFolder(path: temporary))
            try ModelFileSystem.rename(temporary, to: destination)
        } catch {
            ModelFileSystem.remove(temporary)
            var failure = error
            failure.message = failure.message.replacing(temporary, with: destination)
            throw failure
        }
    }

    /// Where the folder grows before it gets its name; gone after `run`, whatever happens.
    package let temporaryFolder: String

    // MARK: Parts

    private func write(into folder: String, progress: @escaping (ByteProgress) -> Void) throws(Failure) {
        let taken = files.reduce(0) { $0 + (FileIdentity(path: $1.source)?.byteCount ?? 0) }
        var counter = ByteCounter(total: taken + writers.reduce(0) { $0 + $1.byteCount }, tell: progress)
        var digests: [String: String] = [:]
        for component in Component.allCases { try ModelFileSystem.makeFolder("\(folder)/\(component.rawValue)") }
        for document in documents {
            try ModelFileSystem.write(document.text, to: "\(folder)/\(document.name)")
            digests[document.name] = try DigestCache.hash("\(folder)/\(document.name)")
        }
        for writer in writers {
            let name = writer.component.component.rawValue
            counter.start(name)
            let written = try writer.write(to: "\(folder)/\(name)") { counter.add($0) }
            for (file, digest) in written { digests["\(name)/\(file)"] = digest }
        }
        for file in files {
            counter.start(file.target)
            try ModelFileSystem.place(file.source, at: "\(folder)/\(file.target)", copying: options.copiesFiles)
            digests[file.target] = try DigestCache.hash("\(folder)/\(file.target)") { counter.add($0) }
        }
        try ModelFileSystem.write(DigestList(digests).text, to: "\(folder)/\(DigestList.fileName)")
    }

    private func requireSpace() throws(Failure) {
        let parent = destination.lastIndex(of: "/").map { String(destination[..<$0]) } ?? "."
        let folder = parent.isEmpty ? "/" : parent
        try ModelFileSystem.makeFolder(folder)
        var needed = writers.reduce(0) { $0 + $1.byteCount }
        if options.copiesFiles { needed += files.reduce(0) { $0 + (FileIdentity(path: $1.source)?.byteCount ?? 0) } }
        guard let free = ModelFileSystem.freeBytes(at: folder), free < needed else { return }
        throw Failure(
            "disk_space_insufficient", "\(folder) has \(free >> 20) MB left, and the model needs \(needed >> 20) MB.",
            field: "destination", remedy: "Make room, or name a folder on another disk.")
    }

    /// A value of `--set`: JSON where it is, and a string otherwise.
    private static func value(_ text: String) -> JSONValue {
        (try? JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))) ?? .string(text)
    }

    private static func notes(_ components: [SATComponent], _ configurations: SATConfigurations?) -> [String] {
        var notes = components.map { component in
            "\(component.component.rawValue): \(component.pieces.count) tensors of \(component.file.label), "
                + "\(component.dropped.count) keys without a place left out"
        }
        if let configurations { notes.append("variant: \(configurations.variant.rawValue)") }
        return notes
    }
}
