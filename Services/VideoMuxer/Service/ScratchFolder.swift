import Failure
import FoundationEssentials
import Tensor

/// A temporary folder for one task.
struct ScratchFolder {
    private let folder: String

    /// Fails with `scratch_unusable` when the folder for temporary files cannot be written.
    init() throws(Failure) {
        folder = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString)").path()
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw Failure(
                "scratch_unusable", "cannot make \(folder): \(error)", remedy: "Set TMPDIR to a folder with room.",
                retry: .otherWorker)
        }
    }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// The bytes of a file, as a tensor `[n]`.
    func read(_ path: String) throws(Failure) -> Tensor {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw Failure(
                "scratch_unusable", "cannot read \(path)", remedy: "Set TMPDIR to a folder with room.",
                retry: .otherWorker)
        }
        var bytes = Tensor(uninitialized: [data.count], dtype: .uint8)
        bytes.withUnsafeMutableBytes { target in _ = data.copyBytes(to: target) }
        return bytes
    }

    func remove() { try? FileManager.default.removeItem(atPath: folder) }
}
