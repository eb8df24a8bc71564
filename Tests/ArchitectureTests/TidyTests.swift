import Testing

@Suite("The sources are tidy")
struct TidyTests {
    static let sources = ["Services", "Shared"]
    static let everything = sources + ["Tests"]
    static let generated = ".pb-c."

    /// Places where stopping the process is the only answer, each with its reason beside the call.
    static let fatalErrorsAllowed: Set<String> = []

    @Test("no file is longer than 500 lines")
    func filesAreShort() throws {
        let files = try SourceFile.all(in: Self.everything, extensions: ["swift", "c", "h", "sh", "py"])
        #expect(files.count > 100, "only \(files.count) files found: the scan is broken")
        for file in files where !file.path.contains(Self.generated) {
            #expect(file.lines.count <= 501, "\(file.path) has \(file.lines.count - 1) lines")
        }
    }

    @Test("no function of a module is longer than 70 lines")
    func functionsAreShort() throws {
        let opening = /^(\s*)(?:[@\w()]+\s+)*(?:func\s|init[?(<]|deinit\b)/
        for file in try SourceFile.all(in: Self.sources, extensions: ["swift"]) {
            var start: (line: Int, indentation: Substring)?
            for (number, line) in file.code.enumerated() where !line.allSatisfy(\.isWhitespace) {
                if let begun = start {
                    if line.hasPrefix(begun.indentation + "}") {
                        let length = number - begun.line - 1
                        #expect(length <= 70, "\(file.path):\(begun.line + 1): a function of \(length) lines")
                        start = nil
                    } else if line.prefix(while: \.isWhitespace).count < begun.indentation.count {
                        start = nil
                    }
                }
                let isWhole = line.contains("{") && line.count { $0 == "{" } == line.count { $0 == "}" }
                guard !isWhole, let match = line.firstMatch(of: opening) else { continue }
                if start == nil || start?.indentation == match.1 { start = (number, match.1) }
            }
        }
    }

    @Test("nothing is left for later")
    func noUnfinishedWork() throws {
        let words = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].map { word in
            (word, try? Regex("\\b\(word)\\b"))
        }
        for file in try SourceFile.all(in: Self.everything, extensions: ["swift", "c", "h", "proto", "sh", "py"]) {
            for (number, line) in file.lines.enumerated() {
                for (word, pattern) in words {
                    let found = try pattern?.firstMatch(in: line) != nil
                    #expect(!found, "\(file.path):\(number + 1) says \(word)")
                }
            }
        }
    }

    @Test("bad input cannot stop a process: no forced try, cast or unwrap, no fatalError")
    func nothingIsForced() throws {
        let unwrap = /[\w\)\]\}]!(?!=)/
        for file in try SourceFile.all(in: Self.sources, extensions: ["swift"]) {
            for (number, line) in file.code.enumerated() {
                let place = "\(file.path):\(number + 1)"
                #expect(line.firstMatch(of: unwrap) == nil, "\(place) forces: \(line.trimmingPrefix(/\s+/))")
                if line.contains("fatalError(") {
                    #expect(Self.fatalErrorsAllowed.contains(file.path), "\(place) calls fatalError")
                }
            }
        }
    }

    @Test("an unchecked Sendable says why it is safe")
    func uncheckedSendableIsExplained() throws {
        for file in try SourceFile.all(in: Self.sources, extensions: ["swift"]) {
            for (number, line) in file.code.enumerated() where line.contains("@unchecked Sendable") {
                let before = file.lines[max(0, number - 8)..<number]
                let explained = before.contains { $0.trimmingPrefix(/\s+/).hasPrefix("//") }
                #expect(explained, "\(file.path):\(number + 1) has no comment that proves it")
            }
        }
    }

    @Test("modules speak to each other with package access, never public")
    func nothingIsPublic() throws {
        for file in try SourceFile.all(in: Self.sources, extensions: ["swift"]) {
            for (number, line) in file.code.enumerated() {
                let isPublic = line.firstMatch(of: /^\s*(?:@\w+\s+)*(?:public|open)\s/) != nil
                #expect(!isPublic, "\(file.path):\(number + 1): \(line.trimmingPrefix(/\s+/))")
            }
        }
    }

    @Test("no path of one machine is written down")
    func noMachinePaths() throws {
        let paths = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/"]
        let folders = Self.everything + ["compose", "docs"]
        let kinds: Set = ["swift", "c", "h", "proto", "sh", "py", "yaml", "md", "json"]
        for file in try SourceFile.all(in: folders, extensions: kinds) {
            for (number, line) in file.lines.enumerated() {
                for path in paths {
                    #expect(!line.contains(path), "\(file.path):\(number + 1) names \(path)")
                }
            }
        }
    }
}
