package import Failure
import Glibc
import Wire

/// The file that says whom a broker admits: one line a key, `NAME ROLE STAGES KEY`, with `-` for any stage.
///
/// `zoetrope keys authorize` and `revoke` write it; a running broker notices within a second.
package struct AuthorizedKeys: Sendable, Hashable {
    package var principals: [Principal]

    package init(principals: [Principal] = []) { self.principals = principals }

    /// Reads the file.
    ///
    /// - Throws: `key_file_unreadable`; `key_file_exposed` when others may change it; `authorized_keys_invalid` with
    ///   the line.
    package init(file path: String) throws(Failure) {
        var status = stat()
        if stat(path, &status) == 0, status.st_mode & 0o022 != 0 {
            throw Failure(
                "key_file_exposed", "\(path) can be changed by others", field: "authorized-keys",
                remedy: "chmod 600 \(path), and look at what `zoetrope keys list` says.")
        }
        self.init()
        let text = try KeyFile.read(path, isSecret: false)
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split(separator: " ").map(String.init)
            // Keys may begin with #, but never stand first.
            if words.isEmpty || words[0].hasPrefix("#") { continue }
            guard words.count == 4, Self.isName(words[0]), let role = PeerRole(rawValue: words[1]),
                let key = PublicKey(text: words[3])
            else {
                throw Failure(
                    "authorized_keys_invalid", "\(path):\(number + 1) is not NAME ROLE STAGES KEY",
                    field: "authorized-keys", remedy: "Write it with `zoetrope keys authorize`.")
            }
            let stages = words[2] == "-" ? [] : Set(words[2].split(separator: ",").map(String.init))
            principals.append(Principal(name: words[0], role: role, stages: stages, key: key))
        }
        guard principals.count <= Limits.admittedKeys else {
            throw Failure(
                "authorized_keys_invalid", "\(path) has \(principals.count) keys; at most \(Limits.admittedKeys)",
                field: "authorized-keys", remedy: "Revoke keys that are not used any more.")
        }
    }

    /// Writes the file in one step, mode 0600.
    package func write(to path: String) throws(Failure) {
        var lines = ["# NAME ROLE STAGES KEY, written by `zoetrope keys`; a running broker reads changes at once."]
        for principal in principals {
            let stages = principal.stages.isEmpty ? "-" : principal.stages.sorted().joined(separator: ",")
            lines.append("\(principal.name) \(principal.role.rawValue) \(stages) \(principal.key)")
        }
        try KeyFile.replace(path, lines.joined(separator: "\n") + "\n", mode: 0o600)
    }

    /// Adds a key, or changes what the key may do.
    ///
    /// - Throws: `key_name_invalid`.
    package mutating func authorize(_ principal: Principal) throws(Failure) {
        try Self.check(name: principal.name)
        principals.removeAll { $0.key == principal.key }
        principals.append(principal)
    }

    /// Removes every key of a name, or the one key.
    ///
    /// - Returns: what was removed.
    /// - Throws: `key_unknown`.
    package mutating func revoke(_ nameOrKey: String) throws(Failure) -> [Principal] {
        let removed = principals.filter { $0.name == nameOrKey || $0.key.description == nameOrKey }
        guard !removed.isEmpty else {
            throw Failure(
                "key_unknown", "no key is authorised under \(nameOrKey)", field: "name",
                remedy: "`zoetrope keys list` shows names and keys.")
        }
        principals.removeAll { removed.contains($0) }
        return removed
    }

    /// - Throws: `key_name_invalid` for a name that could not stand in the file.
    package static func check(name: String) throws(Failure) {
        guard isName(name) else {
            throw Failure(
                "key_name_invalid", "\"\(name)\" is no name for a key", field: "name",
                remedy: "Use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit.")
        }
    }

    private static func isName(_ text: String) -> Bool {
        text.wholeMatch(of: /[A-Za-z0-9][A-Za-z0-9._-]{0,63}/) != nil
    }
}
