package import ArgumentParser
package import Checkpoint
import Dispatch
import Failure
import Foundation
import Glibc
package import Tensor

/// `zoetrope models convert SOURCE DESTINATION`: a SAT checkpoint as a folder of the diffusers layout.
package struct ConvertCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Turn a SAT checkpoint into a diffusers folder; no code in it is executed.")

    @Argument(help: "A .pt file, or the folder with transformer/ and vae/.") package var source: String
    @Argument(help: "Folder to make; it must not exist.") package var destination: String
    @Option(help: "2b, 5b, 5b-i2v, 1.5-5b or 1.5-5b-i2v. Default: as the weights tell.")
    package var variant: SATVariant?
    @Option(help: "float32, float16 or bfloat16. Default: every tensor keeps its own type.")
    package var dtype: ConvertedType?
    @Option(help: "The autoencoder's .pt file, where it is not found beside the transformer.")
    package var vae: String?
    @Option(help: "Folder with a T5 encoder, or a diffusers folder that has one.") package var textEncoder: String?
    @Option(help: "Folder with the vocabulary, where it is not with the encoder.") package var tokenizer: String?
    @Option(help: "Diffusers folder that gives the configurations and each component that SOURCE lacks.")
    package var base: String?
    @Option(help: "Write a configuration field otherwise, such as transformer.sample_width=96; may be repeated.")
    package var set: [String] = []
    @Option(help: "The largest weight file in megabytes.") package var shardSize: Int = 5000
    @Flag(help: "Copy files that are taken over, instead of giving them a second name.") package var copy = false
    @Flag(help: "Do not compare the archives' checksums, which some tools write wrongly.")
    package var ignoreChecksums = false

    package init() {}

    package func validate() throws {
        guard (1...1_000_000).contains(shardSize) else { throw ValidationError("--shard-size is 1 to 1000000.") }
        for change in set where change.firstIndex(of: "=") == nil {
            throw ValidationError("--set \(change) is no COMPONENT.FIELD=VALUE.")
        }
    }

    package func run() async throws {
        let conversion = try SATConversion(source: source, destination: destination, options: options())
        for note in conversion.notes { Console.print("  \(note)") }
        let interruption = Self.removing(conversion.temporaryFolder)
        defer { interruption.cancel() }
        let display = ByteProgressDisplay()
        try conversion.run { (folder) throws(Failure) in
            for component in Component.allCases where component.hasWeights {
                let expected = NetworkExpectation.of(component, in: folder)
                try folder.weights(component).check(
                    expected: expected.shapes, optional: expected.optional, ignoring: expected.ignoring)
            }
            _ = try folder.digest(.tokenizer)
        } progress: {
            display.show($0)
        }
        display.end()
        Console.print("\(conversion.destination) is whole; its digests are in SHA256SUMS")
    }

    private func options() -> SATConversion.Options {
        var options = SATConversion.Options()
        options.variant = variant
        options.dtype = dtype?.dtype
        options.autoencoder = vae
        options.textEncoder = textEncoder
        options.tokenizer = tokenizer
        options.base = base
        for change in set {
            let parts = change.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            options.changes[String(parts[0])] = String(parts[1])
        }
        options.shardByteCount = shardSize * 1_000_000
        options.copiesFiles = copy
        options.verifiesChecksums = !ignoreChecksums
        return options
    }

    /// Ctrl-C leaves no half-made folder behind.
    private static func removing(_ folder: String) -> any DispatchSourceSignal {
        signal(SIGINT, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
        source.setEventHandler {
            try? FileManager.default.removeItem(atPath: folder)
            Glibc.exit(128 + SIGINT)
        }
        source.resume()
        return source
    }
}

/// The types that weights can be converted to.
package enum ConvertedType: String, ExpressibleByArgument, CaseIterable, Sendable {
    case float32, float16, bfloat16

    /// The tensor type of that name.
    package var dtype: DType {
        switch self {
        case .float32: .float32
        case .float16: .float16
        case .bfloat16: .bfloat16
        }
    }
}

extension SATVariant: ExpressibleByArgument {}
