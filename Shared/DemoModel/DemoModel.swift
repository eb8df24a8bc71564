import FoundationEssentials
package import Failure

/// The tiny CogVideoX checkpoint that comes with the project, so that a newcomer needs no download.
package enum DemoModel {
    private static let folderName = "cogvideox-demo"
    private static let bundleName = "zoetrope_DemoModel.resources"

    /// The path of the checkpoint folder: SwiftPM's resource bundle beside the executable (or the test runner), else
    /// `share/zoetrope/cogvideox-demo` beside the executable or one level above it. Fails with `demo_model_not_found`.
    package static func path() throws(Failure) -> String {
        let candidates = executableFolders().flatMap { folder in
            [
                "\(folder)/\(bundleName)/\(folderName)",
                "\(folder)/share/zoetrope/\(folderName)",
                "\(folder)/../share/zoetrope/\(folderName)",
            ]
        }
        for candidate in candidates where FileManager.default.fileExists(atPath: candidate + "/model_index.json") {
            return candidate
        }
        throw Failure(
            "demo_model_not_found", "The demo model is in none of: \(candidates.joined(separator: ", ")).",
            field: "model", remedy: "Install share/zoetrope/\(folderName) beside the executable, or name a model.")
    }

    /// Where the running program lies: its own image first, then the path it was started by.
    private static func executableFolders() -> [String] {
        var folders: [String] = []
        if let image = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
            folders.append(parent(of: image))
        }
        // The test runner may be another program than the bundle it was told to run.
        for argument in CommandLine.arguments.prefix(1) + CommandLine.arguments.filter({ $0.hasSuffix(".xctest") })
        where argument.contains("/") {
            folders.append(parent(of: argument))
        }
        var seen: Set<String> = []
        return folders.filter { seen.insert($0).inserted }
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return String(path[..<slash])
    }
}
