// What draws the page: preact with its hooks, and htm's templates.
export { html, render, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
