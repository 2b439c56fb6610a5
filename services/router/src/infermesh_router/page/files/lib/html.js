// What draws the page: preact with its hooks, and htm's templates.
export {
  Component, createContext, h, html, render, useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef,
  useState,
} from "../vendor/htm-preact.js";
