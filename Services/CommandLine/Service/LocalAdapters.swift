import Checkpoint
import Failure
import Foundation
import Model

/// The adapters of a cluster that lives for one command: those of a folder, or files from anywhere that are given a
/// place in the cluster's own folder first.
struct LocalAdapters: Sendable {
    private struct File {
        let name: String
        /// Weights, and peft's configuration where there is one.
        let sources: [String]
        let weight: Double
    }

    private let given: String?
    private let named: [LoraOption]
    private let files: [File]

    /// Checks files before anything is started; names in a folder are checked by the gateway.
    ///
    /// - Parameter folder: that of `--adapters`; nil: the options name files.
    ///
    /// Fails with the codes of `AdapterWeights`.
    init(_ options: [LoraOption], folder: String?, model: ModelFolder) throws(Failure) {
        given = folder
        named = options
        guard folder == nil else {
            files = []
            return
        }
        let shapes = Transformer3D.expectedWeights(model.transformer)
        var files: [File] = []
        for option in options {
            let adapter = try AdapterWeights(path: option.name)
            try adapter.check(shapes: shapes)
            let place = URL(fileURLWithPath: adapter.files[0])
            // Files of peft all have one name; that of their folder tells more.
            let isPeft = adapter.files.count > 1
            let base = (isPeft ? place.deletingLastPathComponent() : place).lastPathComponent
            var name = base.hasPrefix(".") ? "adapter" + base : base
            while files.contains(where: { $0.name == name }) { name = "\(files.count)-\(base)" }
            files.append(File(name: name, sources: adapter.files, weight: option.weight))
        }
        self.files = files
    }

    /// The request's field `loras`; nil for none.
    var field: [[String: any Sendable]]? {
        guard !named.isEmpty else { return nil }
        return given == nil
            ? files.map { ["name": $0.name, "weight": $0.weight] }
            : named.map { ["name": $0.name, "weight": $0.weight] }
    }

    /// The folder for gateway and denoiser: the given one, or `path` with the files in it. Nil where there are none.
    func folder(at path: String) throws(Failure) -> String? {
        if let given { return given }
        guard !files.isEmpty else { return nil }
        do {
            for file in files {
                let isFolder = file.sources.count > 1
                let target = isFolder ? "\(path)/\(file.name)" : path
                try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
                for source in file.sources {
                    let real = URL(fileURLWithPath: source).resolvingSymlinksInPath().path
                    let name = isFolder ? URL(fileURLWithPath: source).lastPathComponent : file.name
                    // A second name costs no space; across file systems it takes a copy.
                    if (try? FileManager.default.linkItem(atPath: real, toPath: "\(target)/\(name)")) == nil {
                        try FileManager.default.copyItem(atPath: real, toPath: "\(target)/\(name)")
                    }
                }
            }
        } catch {
            throw Failure(
                "unwritable_file", "the adapters cannot be put into \(path): \(error.localizedDescription)",
                field: "lora", remedy: "Check the folder's permissions and free space.")
        }
        return path
    }
}
