package import Failure
package import Foundation

/// Saves the previews of a job as files, `step-0012.jpg`, as they come.
package struct PreviewFiles: Sendable {
    /// One event of `GET /v1/videos/{id}/previews`.
    package struct Picture: Decodable, Sendable {
        package var step: Int
        package var total: Int
        package var data: Data
    }

    private let folder: String

    /// Fails with `output_unwritable`.
    package init(folder: String) throws(Failure) {
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw Failure(
                "output_unwritable", "cannot make \(folder): \(error.localizedDescription)", field: "previews")
        }
        self.folder = folder
    }

    /// The file's name; names are in the order of the steps.
    package static func name(step: Int) -> String {
        let number = String(step)
        return "step-\(String(repeating: "0", count: max(0, 4 - number.count)))\(number).jpg"
    }

    package func save(_ picture: Picture) throws(Failure) {
        try OutputFiles.write(picture.data, to: "\(folder)/\(Self.name(step: picture.step))")
    }
}
