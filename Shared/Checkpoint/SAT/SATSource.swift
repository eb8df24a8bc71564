import Failure
import FoundationEssentials

/// Finds the files of a SAT checkpoint below the folder, or from the file, that a user names.
struct SATSource {
    var transformer: String?
    var autoencoder: String?
    /// Folder with a T5 encoder, and usually its vocabulary.
    var textEncoder: String?

    /// A file is a transformer or an autoencoder, as its keys tell. A folder is the released layout:
    /// `transformer/latest`, `transformer/ITERATION/mp_rank_00_model_states.pt`, `vae/3d-vae.pt` and `t5-v1_1-xxl`, or
    /// one of these below it. Failures: `sat_source_not_found`, `sat_model_parallel`, and those of `TorchFile`.
    init(path: String) throws(Failure) {
        guard ModelFileSystem.isFolder(path) else {
            guard FileIdentity(path: path) != nil else { throw Self.notFound(path, "does not exist") }
            let names = try TorchFile(path: path).names
            let isAutoencoder =
                SATAutoencoderKeys.levels(names) != nil && !names.contains { $0.contains("diffusion_model.") }
            if isAutoencoder { autoencoder = path } else { transformer = path }
            return
        }
        transformer = try Self.transformer(in: path)
        if transformer == nil { transformer = try Self.transformer(in: "\(path)/transformer") }
        autoencoder = Self.autoencoder(in: "\(path)/vae") ?? Self.autoencoder(in: path)
        textEncoder = ["t5-v1_1-xxl", "text_encoder"].map { "\(path)/\($0)" }.first(where: ModelFileSystem.isFolder)
        guard transformer != nil || autoencoder != nil else {
            throw Self.notFound(path, "holds neither mp_rank_00_model_states.pt nor 3d-vae.pt")
        }
    }

    private static func transformer(in folder: String) throws(Failure) -> String? {
        let name = "mp_rank_00_model_states.pt"
        var candidates = [folder]
        if let bytes = try? Data(contentsOf: URL(filePath: "\(folder)/latest")) {
            let latest = String(decoding: bytes.prefix(128), as: UTF8.self)
            let iteration = latest.trimmingPrefix { $0.isWhitespace }.prefix { !$0.isWhitespace && $0 != "/" }
            candidates.insert("\(folder)/\(iteration)", at: 0)
        }
        let below = (try? FileManager.default.contentsOfDirectory(atPath: folder))?.sorted() ?? []
        // A checkpoint of a later iteration comes last.
        candidates += below.filter { Int($0) != nil }.sorted { (Int($0) ?? 0) > (Int($1) ?? 0) }.map {
            "\(folder)/\($0)"
        }
        guard let found = candidates.first(where: { FileIdentity(path: "\($0)/\(name)") != nil }) else { return nil }
        if FileIdentity(path: "\(found)/mp_rank_01_model_states.pt") != nil {
            throw Failure(
                "sat_model_parallel", "\(found) is one checkpoint cut into several mp_rank files.", field: found,
                remedy: "Merge it with SAT's model-parallel tools into one mp_rank_00_model_states.pt first.")
        }
        return "\(found)/\(name)"
    }

    private static func autoencoder(in folder: String) -> String? {
        let files = ModelFileSystem.files(in: folder).filter { $0.hasSuffix(".pt") && !$0.hasPrefix("mp_rank_") }
        let found = files.first { $0 == "3d-vae.pt" } ?? files.first { $0.contains("vae") }
        return found.map { "\(folder)/\($0)" }
    }

    private static func notFound(_ path: String, _ what: String) -> Failure {
        Failure(
            "sat_source_not_found", "\(path) \(what).", field: path,
            remedy: "Name a .pt file, or the folder that holds transformer/ and vae/.")
    }
}
