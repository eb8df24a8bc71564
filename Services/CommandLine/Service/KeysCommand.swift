package import ArgumentParser
package import Bus
import Failure
import Foundation
import Glibc
import Wire

/// `zoetrope keys`: identities for a bus that leaves one machine (docs/security.md).
package struct KeysCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Make keys for the bus, and say whom the broker admits.",
        subcommands: [New.self, Authorize.self, Revoke.self, List.self, Token.self])

    package init() {}

    /// `zoetrope keys new`.
    package struct New: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Make a key pair: NAME.key, which stays here, and NAME.pub.")

        @Argument(help: "Name of the process it is for, such as broker, gateway or gpu-1.")
        package var name: String

        @OptionGroup package var place: KeyPlace

        package init() {}

        package func run() async throws {
            try AuthorizedKeys.check(name: name)
            let folder = try place.makeFolder()
            let pair = try KeyPair.generate()
            try pair.save(to: "\(folder)/\(name).key", publicPath: "\(folder)/\(name).pub")
            Console.print("\(folder)/\(name).key\n\(folder)/\(name).pub\n\(pair.publicKey)")
        }
    }

    /// `zoetrope keys authorize`.
    package struct Authorize: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Let the owner of a public key in; run on the broker's machine.")

        @Argument(help: "Name of the owner; several keys may share one.")
        package var name: String

        @Argument(help: "The public key, or its NAME.pub file. Default: NAME.pub in the folder of keys.")
        package var publicKey: String?

        @Option(help: "gateway, worker, client or admin.")
        package var role: PeerRole

        @Option(help: "Stages a worker may compute, such as denoiser,vae-decoder. Default: any.")
        package var stages: String?

        @OptionGroup package var place: KeyPlace

        package init() {}

        package func validate() throws {
            if stages != nil, role != .worker { throw ValidationError("--stages is for --role worker.") }
        }

        package func run() async throws {
            let key = try PublicKey(option: publicKey ?? "\(place.folder)/\(name).pub")
            let wanted = Set((stages ?? "").split(separator: ",").map(String.init))
            _ = try place.makeFolder()
            let principal = Principal(name: name, role: role, stages: wanted, key: key)
            try place.change { (keys) throws(Failure) in try keys.authorize(principal) }
            Console.print("\(name) is admitted as \(role.rawValue): \(key)")
        }
    }

    /// `zoetrope keys revoke`.
    package struct Revoke: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Shut a key out; a running broker ignores its owner within a second.")

        @Argument(help: "The name (all its keys) or one public key.")
        package var nameOrKey: String

        @OptionGroup package var place: KeyPlace

        package init() {}

        package func run() async throws {
            var removed: [Principal] = []
            try place.change { (keys) throws(Failure) in removed = try keys.revoke(nameOrKey) }
            for principal in removed { Console.print("\(principal.name) is shut out: \(principal.key)") }
        }
    }

    /// `zoetrope keys list`.
    package struct List: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(abstract: "Show whom the broker admits.")

        @OptionGroup package var place: KeyPlace

        package init() {}

        package func run() async throws {
            for principal in try AuthorizedKeys(file: place.authorizedPath).principals {
                let stages = principal.stages.isEmpty ? "any stage" : principal.stages.sorted().joined(separator: ",")
                let role = principal.role == .worker ? "worker (\(stages))" : principal.role.rawValue
                Console.print("\(principal.name)  \(role)  \(principal.key)")
            }
        }
    }
}

extension KeysCommand {
    /// `zoetrope keys token`.
    package struct Token: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Make NAME.token, which a gateway tells administrators by (--admin-token-file).")

        @Argument(help: "Name of the token, such as admin.")
        package var name: String

        @OptionGroup package var place: KeyPlace

        package init() {}

        package func run() async throws {
            try AuthorizedKeys.check(name: name)
            let path = "\(try place.makeFolder())/\(name).token"
            try AdminToken.generate().save(to: path)
            Console.print(path)
        }
    }
}

extension PeerRole: ExpressibleByArgument {}

/// Where keys lie.
package struct KeyPlace: ParsableArguments {
    @Option(help: "Folder of keys. [default: $XDG_CONFIG_HOME/zoetrope/keys or ~/.config/zoetrope/keys]")
    package var directory: String?

    @Option(help: "File of the keys to admit. [default: authorized-keys in the folder of keys]")
    package var authorizedKeys: String?

    package init() {}

    init(folder: String) {
        directory = folder
        authorizedKeys = nil
    }

    package var folder: String {
        if let directory { return directory }
        let environment = ProcessInfo.processInfo.environment
        let home = FileManager.default.homeDirectoryForCurrentUser.path
        return (environment["XDG_CONFIG_HOME"] ?? "\(home)/.config") + "/zoetrope/keys"
    }

    package var authorizedPath: String { authorizedKeys ?? "\(folder)/authorized-keys" }

    /// Makes the folder, closed to others, where it is missing.
    func makeFolder() throws(Failure) -> String {
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Failure("io_error", "cannot make \(folder): \(error)", field: "directory")
        }
        return folder
    }

    /// Changes the file while no other command does.
    func change(_ body: (inout AuthorizedKeys) throws(Failure) -> Void) throws(Failure) {
        let path = authorizedPath
        let lock = open("\(path).lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0, flock(lock, LOCK_EX) == 0 else {
            if lock >= 0 { close(lock) }
            throw Failure(
                "io_error", "cannot lock \(path): \(String(cString: strerror(errno)))", field: "authorized-keys")
        }
        // Closing the descriptor ends the lock.
        defer { close(lock) }
        var keys = AuthorizedKeys()
        if FileManager.default.fileExists(atPath: path) { keys = try AuthorizedKeys(file: path) }
        try body(&keys)
        try keys.write(to: path)
    }
}
