package import Failure
import FoundationEssentials

/// A command some of whose options say what one run is to do. Environment and files cannot set those: a
/// `ZOETROPE_BROKER` that tells workers where the broker is must not make `drain` drain it.
package protocol ActingCommand {
    /// Their long names, without dashes.
    static var actions: Set<String> { get }
}

/// Joins the three sources of a service's settings: configuration file < environment < flags.
///
/// The long flags a command understands are the only list of settings there is: `--data-port 7711` on the command line,
/// `ZOETROPE_DATA_PORT=7711` in the environment, `{"data-port": 7711}` in the file named by `--config` or `ZOETROPE_CONFIG`.
package struct ConfigurationSources: Sendable {
    /// Long flag names without dashes; the value says whether the flag takes a value.
    private let options: [String: Bool]

    /// - Parameters:
    ///   - helpMessage: the command's full help, from which the flags are read.
    ///   - actions: options that are no settings, see ``ActingCommand``.
    package init(helpMessage: String, except actions: Set<String> = []) {
        var options: [String: Bool] = [:]
        for line in helpMessage.split(separator: "\n") where line.hasPrefix("  ") {
            let declaration = line.drop { $0 == " " }
            guard declaration.hasPrefix("-") else { continue }
            for (index, word) in declaration.split(separator: " ").enumerated() where word.hasPrefix("--") {
                let words = declaration.split(separator: " ")
                let names = word.split(separator: ",").first.map { $0.split(separator: "/") } ?? []
                let takesValue = index + 1 < words.count && words[index + 1].hasPrefix("<")
                for name in names { options[String(name.drop { $0 == "-" })] = takesValue }
                if !word.hasSuffix(",") { break }
            }
        }
        self.options = options.filter { !actions.contains($0.key) }
    }

    /// The arguments to parse: `arguments` preceded by what the environment and the file add and flags do not override.
    ///
    /// - Throws: `configuration_invalid` for an unreadable file or an unknown key; the environment may hold variables
    ///   of other services, which are not errors.
    package func merged(arguments: [String], environment: [String: String]) throws(Failure) -> [String] {
        var added: [String] = []
        var given = Set(arguments.compactMap(Self.flagName))
        for (key, value) in environment.sorted(by: { $0.key < $1.key }) where key.hasPrefix("ZOETROPE_") {
            let name = key.dropFirst("ZOETROPE_".count).lowercased().replacing("_", with: "-")
            guard let takesValue = options[name], name != "config", !given.contains(name) else { continue }
            added += try flag(name, takesValue: takesValue, text: value, origin: "environment variable \(key)")
            given.insert(name)
        }
        guard let file = Self.value(of: "config", in: arguments) ?? environment["ZOETROPE_CONFIG"] else {
            return added + arguments
        }
        for (name, texts) in try read(file: file).sorted(by: { $0.key < $1.key }) {
            guard let takesValue = options[name] else {
                throw Failure(
                    "configuration_invalid", "\(file): no option is called \"\(name)\"", field: name,
                    remedy: "Known: \(options.keys.sorted().joined(separator: ", ")).")
            }
            guard !given.contains(name) else { continue }
            for text in texts { added += try flag(name, takesValue: takesValue, text: text, origin: file) }
        }
        return added + arguments
    }

    private func flag(_ name: String, takesValue: Bool, text: String, origin: String) throws(Failure) -> [String] {
        if takesValue { return ["--\(name)", text] }
        switch text.lowercased() {
        case "1", "true", "yes": return ["--\(name)"]
        case "0", "false", "no", "": return []
        default:
            throw Failure(
                "configuration_invalid", "\(origin): \"\(text)\" is not true or false", field: name,
                remedy: "Write true or false.")
        }
    }

    private func read(file: String) throws(Failure) -> [String: [String]] {
        do {
            let data = try Data(contentsOf: URL(fileURLWithPath: file))
            return try JSONDecoder().decode([String: ConfigurationValue].self, from: data).mapValues(\.texts)
        } catch {
            throw Failure(
                "configuration_invalid", "cannot read \(file): \(error)", field: "config",
                remedy: "It must be a JSON object of option names and values.")
        }
    }

    private static func flagName(_ argument: String) -> String? {
        guard argument.hasPrefix("--"), argument.count > 2 else { return nil }
        return argument.dropFirst(2).split(separator: "=").first.map(String.init)
    }

    private static func value(of name: String, in arguments: [String]) -> String? {
        for (index, argument) in arguments.enumerated() {
            if argument == "--\(name)", index + 1 < arguments.count { return arguments[index + 1] }
            if argument.hasPrefix("--\(name)=") { return String(argument.dropFirst(name.count + 3)) }
        }
        return nil
    }
}

/// A JSON scalar, or an array of scalars for an option that may be given several times.
private struct ConfigurationValue: Decodable {
    let texts: [String]

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let flag = try? container.decode(Bool.self) {
            texts = [flag ? "true" : "false"]
        } else if let integer = try? container.decode(Int.self) {
            texts = [String(integer)]
        } else if let number = try? container.decode(Double.self) {
            texts = [String(number)]
        } else if let list = try? container.decode([ConfigurationValue].self) {
            texts = list.flatMap(\.texts)
        } else {
            texts = [try container.decode(String.self)]
        }
    }
}
