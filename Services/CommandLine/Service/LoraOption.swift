import ArgumentParser
import Foundation

/// `NAME` or `NAME:WEIGHT`, of `--lora`.
package struct LoraOption: ExpressibleByArgument, Sendable, Hashable {
    /// A file or folder, or what the server calls one.
    package let name: String
    package let weight: Double

    /// A file that is there is taken whole, colons and all; otherwise what follows the last colon is the weight. Nil
    /// for a weight that is no finite number.
    package init?(argument: String) {
        guard !FileManager.default.fileExists(atPath: argument), let colon = argument.lastIndex(of: ":") else {
            name = argument
            weight = 1
            return
        }
        guard let number = Double(argument[argument.index(after: colon)...]), number.isFinite else { return nil }
        name = String(argument[..<colon])
        weight = number
    }
}
