import { ArchiveReader, qualified } from "../../lib/runtime/engines/postgres-archive";

describe("the reader of an archive", () => {
  const text = String.raw`-- Data for Name: t; Type: TABLE DATA
COPY "public"."t" ("a") FROM stdin;
COPY "public"."u" ("a") FROM stdin;

\\.
x
\.


COPY "S ""x"""."two
lines;" ("a") FROM stdin;
\.
SELECT pg_catalog.setval('"public"."it''s"', 5, true);
SELECT pg_catalog.setval('"public"."new"', 5, false);
SELECT pg_catalog.lo_open('16385', 131072);
`;

  test("counts the same whatever the pieces it gets", () => {
    const expected = {
      rows: new Map([["public.t", 4], ['"S ""x"""."two\nlines;"', 0]]),
      sequences: new Map([['public."it\'s"', "5"], ["public.new", null]]),
      largeObjects: 1,
    };
    for (let size = 1; size < text.length; size++) {
      const reader = new ArchiveReader("utf8");
      for (let start = 0; start < text.length; start += size) reader.push(Buffer.from(text.slice(start, start + size)));
      expect(reader.end()).toEqual(expected);
    }
  });

  test("fails when rows have no end", () => {
    const reader = new ArchiveReader("utf8");
    reader.push(Buffer.from(text.slice(0, 100)));
    expect(() => reader.end()).toThrow("the dump breaks off in the rows of public.t");
  });
});

test("names are quoted where they must be, whatever words the server reserves", () => {
  expect([qualified("public", "order"), qualified("Public", "a_1"), qualified("x", 'a"b'), qualified("a.b", "c")]).toEqual([
    "public.order",
    '"Public".a_1',
    'x."a""b"',
    '"a.b".c',
  ]);
});
