import Crypto
package import Failure
import FoundationEssentials

/// Digests identify a checkpoint by content, so that a job runs on the same weights wherever it runs.
extension ModelFolder {
    /// Hex SHA-256 over `model_index.json` and the digests of all components.
    package func digest() throws(Failure) -> String {
        var lines = ["model_index.json \(try DigestCache.digest(of: path + "/model_index.json"))"]
        for component in Component.allCases { lines.append("\(component.rawValue) \(try digest(component))") }
        return lines.joined(separator: "\n").sha256
    }

    /// Hex SHA-256 over the names and contents of the files of one component: configuration, weights, vocabulary.
    ///
    /// Hashes of single files are remembered by path, size and modification time.
    package func digest(_ component: Component) throws(Failure) -> String {
        var names: [String] = component.configName.map { [$0] } ?? []
        if component.hasWeights {
            let files = try WeightFiles(folder: path, component: component)
            names += (files.names + [files.index].compactMap(\.self)).map { "\(component.rawValue)/\($0)" }
        }
        if component == .tokenizer { names += try tokenizerFiles() }
        var lines: [String] = []
        for name in names.sorted() { lines.append("\(name) \(try DigestCache.digest(of: "\(path)/\(name)"))") }
        return lines.joined(separator: "\n").sha256
    }

    private func tokenizerFiles() throws(Failure) -> [String] {
        let known = [
            "added_tokens.json", "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json",
        ]
        let present = known.filter { FileIdentity(path: "\(tokenizerPath)/\($0)") != nil }
        guard present.contains("spiece.model") || present.contains("tokenizer.json") else {
            throw Failure(
                "model_config_invalid", "\(tokenizerPath) holds neither spiece.model nor tokenizer.json.",
                field: "tokenizer", remedy: "Finish the download of the checkpoint.")
        }
        return present.map { "tokenizer/\($0)" }
    }
}

extension String {
    fileprivate var sha256: String { SHA256.hash(data: Data(utf8)).hexadecimal }
}
