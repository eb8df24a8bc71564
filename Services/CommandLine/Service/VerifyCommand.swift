package import ArgumentParser
package import Checkpoint
import Failure
import Model

/// `zoetrope models verify FOLDER`: is everything there, and is it what it was?
package struct VerifyCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check a model folder's digests, keys, shapes and values.",
        discussion: "Ends with status 0 when nothing is wrong, and 1 otherwise.")

    @Argument(help: "Folder in diffusers layout.") package var folder: String
    @Option(
        help: ArgumentHelp(
            "sha256sum's list, JSON of paths and digests, or a folder of Git LFS pointers. "
                + "Default: SHA256SUMS or digests.json in FOLDER."))
    package var digests: String?
    @Option(help: "Look for NaN and infinity in all, sampled or none of the values.")
    package var values: ModelVerification.Values = .all

    package init() {}

    package func run() async throws {
        let list = try digests.map { path throws(Failure) in try DigestList(path: path) } ?? DigestList.inside(folder)
        var verification = ModelVerification(folder: folder, digests: list, values: values)
        let display = ByteProgressDisplay()
        verification.run(expected: { NetworkExpectation.of($1, in: $0) }, progress: { display.show($0) })
        display.end()
        for finding in verification.findings { Console.print("\(finding.place): \(finding.message)") }
        let digested =
            list.map { "\(verification.fileCount) files compared with \($0.origin)" } ?? "no digests to compare with"
        let looked = "the values of \(verification.tensorCount) tensors read (\(values.rawValue))"
        guard verification.findings.isEmpty else {
            Console.print("\(folder): \(verification.findings.count) wrong; \(digested), \(looked)")
            throw ExitCode(1)
        }
        Console.print("\(folder) is whole: \(digested), \(looked)")
    }
}

extension ModelVerification.Values: ExpressibleByArgument {}

/// What the networks want of a checkpoint, as they say when they load it.
enum NetworkExpectation {
    static func of(_ component: Component, in folder: ModelFolder) -> ModelVerification.Expectation {
        switch component {
        case .transformer:
            ModelVerification.Expectation(shapes: Transformer3D.expectedWeights(folder.transformer)) {
                $0 == "patch_embed.pos_embedding"
            }
        case .vae: ModelVerification.Expectation(shapes: AutoencoderKLDecoder.expectedWeights(folder.vae))
        case .textEncoder:
            ModelVerification.Expectation(
                shapes: T5Encoder.expectedWeights(folder.textEncoder),
                // The token table may be there under either of its names.
                optional: ["shared.weight", "encoder.embed_tokens.weight"]
            ) { $0.hasPrefix("decoder.") || $0 == "lm_head.weight" || $0.hasSuffix("position_ids") }
        case .tokenizer, .scheduler: ModelVerification.Expectation(shapes: [:])
        }
    }
}
