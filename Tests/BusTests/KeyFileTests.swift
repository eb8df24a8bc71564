import Bus
import Failure
import FoundationEssentials
import Glibc
import Runtime
import Testing
import Wire

@Suite("Key files") struct KeyFileTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
        let path = "/tmp/zk-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    private func code(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch {
            return (error as? Failure)?.code ?? "\(error)"
        }
    }

    @Test("a pair is written for its owner alone and read again; it is never overwritten")
    func saving() throws {
        try inFolder { folder in
            let pair = try KeyPair.generate()
            try pair.save(to: "\(folder)/a.key", publicPath: "\(folder)/a.pub")
            var status = stat()
            try #require(stat("\(folder)/a.key", &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o600)
            #expect(try KeyPair(file: "\(folder)/a.key").publicKey == pair.publicKey)
            #expect(try PublicKey(option: "\(folder)/a.pub") == pair.publicKey)
            #expect(try PublicKey(option: pair.publicKey.description) == pair.publicKey)
            // A path of 40 characters could be a key as well.
            let path = folder + "/" + String(repeating: "k", count: 39 - folder.utf8.count)
            try pair.save(to: "\(folder)/c.key", publicPath: path)
            #expect(PublicKey(text: path) != nil)
            #expect(try PublicKey(option: path) == pair.publicKey)
            #expect(code { try pair.save(to: "\(folder)/a.key", publicPath: "\(folder)/b.pub") } == "key_file_exists")
            #expect(try KeyPair.generate().publicKey != pair.publicKey)
        }
    }

    @Test("a key that others can read is refused", arguments: [0o604, 0o640, 0o620, 0o644, 0o777] as [mode_t])
    func wideModes(mode: mode_t) throws {
        try inFolder { folder in
            try KeyPair.generate().save(to: "\(folder)/a.key", publicPath: "\(folder)/a.pub")
            chmod("\(folder)/a.key", mode)
            #expect(code { _ = try KeyPair(file: "\(folder)/a.key") } == "key_file_exposed")
        }
    }

    @Test("an administrator's token is long, random, its owner's alone, and matches itself only")
    func adminToken() throws {
        try inFolder { folder in
            let path = "\(folder)/admin.token"
            let token = AdminToken.generate()
            try token.save(to: path)
            #expect(try AdminToken(file: path) == token && token != AdminToken.generate())
            #expect(token.text.count == 64 && token.matches(token.text))
            for other in ["", String(token.text.dropLast()), token.text + "0", token.text.uppercased() + " "] {
                #expect(!token.matches(other), "\(other)")
            }
            #expect(code { try token.save(to: path) } == "key_file_exists")
            chmod(path, 0o640)
            #expect(code { _ = try AdminToken(file: path) } == "key_file_exposed")
            for (number, text) in ["short", String(repeating: "ä", count: 40), ""].enumerated() {
                let path = "\(folder)/\(number).token"
                try text.write(toFile: path, atomically: true, encoding: .utf8)
                chmod(path, 0o600)
                #expect(code { _ = try AdminToken(file: path) } == "admin_token_invalid", "\(text)")
            }
        }
    }

    @Test("root changes a list without taking it from its owner", .enabled(if: geteuid() == 0))
    func ownership() throws {
        try inFolder { folder in
            let path = "\(folder)/authorized-keys"
            try AuthorizedKeys().write(to: path)
            try #require(chown(path, 10001, 10001) == 0)
            try AuthorizedKeys().write(to: path)
            var status = stat()
            try #require(stat(path, &status) == 0)
            #expect(status.st_uid == 10001 && status.st_gid == 10001 && status.st_mode & 0o777 == 0o600)
        }
    }

    @Test("a missing, torn or mixed key file is refused by name")
    func damaged() throws {
        try inFolder { folder in
            #expect(code { _ = try KeyPair(file: "\(folder)/none.key") } == "key_file_unreadable")
            #expect(code { _ = try KeyPair(file: folder) } != nil)
            let (one, two) = (try KeyPair.generate(), try KeyPair.generate())
            try one.save(to: "\(folder)/1.key", publicPath: "\(folder)/1.pub")
            let text = try String(contentsOfFile: "\(folder)/1.key", encoding: .utf8)
            for (name, content) in [
                ("mixed", text.replacing(one.publicKey.description, with: two.publicKey.description)),
                ("torn", String(text.dropLast(10))), ("empty", ""),
            ] {
                let path = "\(folder)/\(name).key"
                try content.write(toFile: path, atomically: false, encoding: .utf8)
                chmod(path, 0o600)
                #expect(code { _ = try KeyPair(file: path) } == "key_file_invalid", "\(name)")
            }
            #expect(code { _ = try PublicKey(option: "\(folder)/mixed.key") } == "public_key_invalid")
        }
    }

    @Test("the list of authorised keys survives writing, changing and revoking")
    func authorizedKeys() throws {
        try inFolder { folder in
            let path = "\(folder)/authorized-keys"
            var keys = AuthorizedKeys()
            let (old, new) = (try KeyPair.generate().publicKey, try KeyPair.generate().publicKey)
            try keys.authorize(Principal(name: "gpu-1", role: .worker, stages: ["denoiser", "vae-decoder"], key: old))
            try keys.authorize(Principal(name: "gpu-1", role: .worker, key: new))
            try keys.authorize(Principal(name: "front", role: .gateway, key: try KeyPair.generate().publicKey))
            try keys.write(to: path)
            #expect(try AuthorizedKeys(file: path) == keys)
            // The same key once more changes what it may do.
            try keys.authorize(Principal(name: "gpu-1", role: .admin, key: new))
            #expect(keys.principals.count == 3)
            #expect(try keys.revoke(old.description).map(\.key) == [old])
            #expect(try keys.revoke("gpu-1").map(\.key) == [new])
            #expect(code { _ = try keys.revoke("gpu-1") } == "key_unknown")
            #expect(code { try keys.authorize(Principal(name: "a b", role: .admin, key: old)) } == "key_name_invalid")
            chmod(path, 0o666)
            #expect(code { _ = try AuthorizedKeys(file: path) } == "key_file_exposed")
        }
    }

    @Test(
        "a line that is none is named",
        arguments: ["gpu worker", "gpu boss - KEY", "gpu worker - short", "/x worker - KEY"])
    func malformedLine(line: String) throws {
        try inFolder { folder in
            let key = try KeyPair.generate().publicKey.description
            let path = "\(folder)/authorized-keys"
            try "# comment\n\n\(line.replacing("KEY", with: key))\n".write(
                toFile: path, atomically: false, encoding: .utf8)
            do {
                _ = try AuthorizedKeys(file: path)
                Issue.record("\(line) was taken")
            } catch let error as Failure {
                #expect(error.code == "authorized_keys_invalid" && error.message.contains(":3"))
            }
        }
    }
}
