import ArgumentParser
import Failure
import FoundationEssentials
import Runtime
import Testing

private struct Probe: ParsableCommand {
    @Option(help: "Where the broker listens.") var broker: String = "ipc"
    @Option(name: [.short, .long], help: "Slots.") var slots: Int = 1
    @Option(help: "May be given several times.") var listen: [String] = []
    @Flag(help: "No keys.") var insecure = false
    @OptionGroup var logging: LoggingOptions
}

@Suite("configuration sources")
struct ConfigurationSourcesTests {
    private let sources = ConfigurationSources(helpMessage: Probe.helpMessage(includeHidden: true))

    private func parsed(_ arguments: [String], _ environment: [String: String] = [:]) throws -> Probe {
        try Probe.parse(try sources.merged(arguments: arguments, environment: environment))
    }

    private func file(_ text: String) throws -> String {
        let path = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString).json").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test("the environment sets what no flag sets") func environment() throws {
        let probe = try parsed(
            [], ["ZOETROPE_BROKER": "tcp://a:1", "ZOETROPE_SLOTS": "3", "ZOETROPE_INSECURE": "true"])
        #expect(probe.broker == "tcp://a:1")
        #expect(probe.slots == 3)
        #expect(probe.insecure)
    }

    @Test("flags override the environment, which overrides the file") func precedence() throws {
        let path = try file(#"{"broker": "from-file", "slots": 7, "listen": ["a", "b"]}"#)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let probe = try parsed(["--config", path, "--slots=1"], ["ZOETROPE_BROKER": "from-environment"])
        #expect(probe.broker == "from-environment")
        #expect(probe.slots == 1)
        #expect(probe.listen == ["a", "b"])
    }

    @Test("an unknown key in the file is an error that names it") func unknownKey() throws {
        let path = try file(#"{"brokr": "x"}"#)
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: Failure.self) { try sources.merged(arguments: ["--config", path], environment: [:]) }
        do {
            _ = try sources.merged(arguments: ["--config", path], environment: [:])
        } catch {
            #expect(error.code == "configuration_invalid")
            #expect(error.message.contains("brokr"))
        }
    }

    @Test("an option that says what one run does is left to the command line") func actions() throws {
        let sources = ConfigurationSources(helpMessage: Probe.helpMessage(includeHidden: true), except: ["insecure"])
        let variables = ["ZOETROPE_INSECURE": "tcp://a:1", "ZOETROPE_SLOTS": "3"]
        let merged = try sources.merged(arguments: ["--insecure"], environment: variables)
        #expect(merged == ["--slots", "3", "--insecure"])
        #expect(try sources.merged(arguments: [], environment: variables) == ["--slots", "3"])
    }

    @Test("variables of other services and false flags change nothing") func foreignVariables() throws {
        let probe = try parsed([], ["ZOETROPE_OTHER": "1", "ZOETROPE_INSECURE": "0"])
        #expect(!probe.insecure)
        #expect(throws: Failure.self) { try parsed([], ["ZOETROPE_INSECURE": "perhaps"]) }
    }
}

@Suite("run directory")
struct RunDirectoryTests {
    @Test("two processes see one identity for one folder and another for another") func identity() throws {
        let base = "/tmp/zoetrope-test-\(UInt32.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: base) }
        let first = try RunDirectory(path: "\(base)/a")
        let again = try RunDirectory(path: "\(base)/a")
        let other = try RunDirectory(path: "\(base)/b")
        #expect(first.hostIdentity == again.hostIdentity)
        #expect(first.hostIdentity != other.hostIdentity)
        let mode = try FileManager.default.attributesOfItem(atPath: first.path)[.posixPermissions] as? Int
        #expect(mode == 0o700)
    }

    @Test("a path with no room for a socket name is refused") func tooLong() {
        let long = "/tmp/" + String(repeating: "x", count: 90)
        #expect(throws: Failure.self) { try RunDirectory(path: long) }
    }
}
